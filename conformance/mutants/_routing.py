"""A small right router, with places where mistakes can be made."""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor
Result = tuple[Tensor, Tensor]
Step = Callable[[Tensor], Tensor]


def group_sums(of_group: Tensor) -> Tensor:
    """The sum of the two best of each group: (T, G, E / G) to (T, G)."""
    return of_group.topk(2, dim=-1).values.sum(dim=-1)


def best(within: Tensor, k: int) -> Tensor:
    """The k largest of each row."""
    return within.topk(k, dim=-1).indices


def normalised(weights: Tensor) -> Tensor:
    """Weights that add up to 1, if there are several."""
    if weights.shape[1] == 1:
        return weights
    return weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)


def route(
    logits: Tensor, bias: Tensor, *, groups: int, top_groups: int, top_k: int, scaling: float,
    score: Step = torch.sigmoid, of_groups: Step = group_sums, excluded: float = -torch.inf,
    choose: Callable[[Tensor, int], Tensor] = best, norm: Step = normalised,
    unbiased: Callable[[Tensor, Tensor], Tensor] = lambda scores, _: scores,
) -> Result:  # fmt: skip
    """The weights and experts of every token; ``unbiased`` gives what is weighed by."""
    T, E = logits.shape
    scores = score(logits)
    biased = scores + bias
    of_group = biased.view(T, groups, E // groups)
    chosen = of_groups(of_group).topk(top_groups, dim=-1).indices
    out = torch.ones(T, groups, dtype=torch.bool).scatter(1, chosen, False)
    within = of_group.masked_fill(out[..., None], excluded).view(T, E)
    experts = choose(within, top_k)
    return norm(unbiased(scores, biased).gather(1, experts)) * scaling, experts
