"""Which experts a token goes to, and with what weight.

Letters: T tokens, E experts, G groups, k chosen experts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.rounding import at

__all__ = ["moe_route", "weighed"]


@on_one_device
def moe_route(
    logits: Tensor, bias: Tensor, *, groups: int, top_groups: int, top_k: int, scaling: float
) -> tuple[Tensor, Tensor]:
    """Choose experts by biased scores, inside the best groups; weigh them by unbiased ones.

        p = sigmoid(logits),  b = p + bias
        score of a group = the sum of the two largest b in it
        experts = the ``top_k`` largest b among the experts of the ``top_groups`` best groups
        weights = scaling * p[experts] / (sum of p[experts] + 1e-20)

    The bias takes no part in the weights. With ``top_k`` = 1 the weight is scaling * p, not
    normalised, as released.

    Args:
        logits:     (T, E) float32.
        bias:       (E,)   float32.
        groups:     Groups of consecutive experts, a divisor of E, with two experts or more each.
        top_groups: From 1 to ``groups``.
        top_k:      From 1 to the number of experts in ``top_groups`` groups.
        scaling:    The factor of all weights.

    What is float32 is float64 where ``logits`` is. A row with NaN gives some ``top_k`` experts, and
    nothing is said of their weights.

    Returns:
        weights: (T, top_k) float32.
        experts: (T, top_k) int64, distinct. Their order is free; weights are in the same.

    Precision:
        float32 (float64 for float64). Experts of other groups are excluded by -inf, not by 0: a
        chosen one may have a negative b. Equal b: any of them.

    Raises:
        ContractError: a shape, a dtype or a number that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:327-348 and 355-363.
    """
    _check(logits, bias, groups, top_groups, top_k)
    T, E = logits.shape
    scores = at("score", torch.sigmoid(logits))
    biased = at("score", scores + bias)

    of_group = biased.view(T, groups, E // groups)
    group_scores = of_group.topk(2, dim=-1).values.sum(dim=-1)  # (T, groups)
    best = group_scores.topk(top_groups, dim=-1).indices
    excluded = torch.ones_like(group_scores, dtype=torch.bool).scatter(1, best, value=False)
    within = of_group.masked_fill(excluded[..., None], -torch.inf).view(T, E)
    experts = within.topk(top_k, dim=-1).indices

    return weighed(scores, experts, scaling), experts


def weighed(scores: Tensor, experts: Tensor, scaling: float) -> Tensor:
    """The weights of chosen experts: unbiased scores (T, E) at (T, k), normalised if k > 1."""
    weights = scores.gather(1, experts)
    if experts.shape[1] > 1:
        weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
    return weights * scaling


def _check(logits: Tensor, bias: Tensor, groups: int, top_groups: int, top_k: int) -> None:
    ok = logits.dtype in (torch.float32, torch.float64)
    require(ok, "logits", "dtype", logits.dtype, "float32 or float64")
    require(logits.dim() == 2, "logits", "shape", tuple(logits.shape), "(T, E)")
    E = logits.shape[1]
    require(bias.shape == (E,), "bias", "shape", tuple(bias.shape), f"({E},)")
    require(bias.dtype == logits.dtype, "bias", "dtype", bias.dtype, f"{logits.dtype}, as logits")
    ok = groups >= 1 and E % groups == 0 and E // groups >= 2
    require(ok, "groups", "value", groups, f"a divisor of {E} that leaves 2 experts in a group")
    ok = 1 <= top_groups <= groups
    require(ok, "top_groups", "value", top_groups, f"an integer from 1 to {groups}")
    most = top_groups * (E // groups)
    require(1 <= top_k <= most, "top_k", "value", top_k, f"an integer from 1 to {most}")
