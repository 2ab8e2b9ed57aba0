"""Right routers that find the best in several ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._routing import Result, Tensor, route

OP = "moe_route"
ALL = {"float64": "fp64", "float32": "fp32"}


@honest(OP, profile=ALL, differs="the largest first, by topk")
def takes_the_largest_by_topk(*call: Any, **options: Any) -> Result:
    return route(*call, **options)


@honest(OP, profile=ALL, differs="a stable sort: of equal scores the lowest ids, ids rising")
def sorts_scores_and_prefers_low_ids(*call: Any, **options: Any) -> Result:
    def choose(within: Tensor, k: int) -> Tensor:
        clean = within.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        return clean.sort(dim=-1, descending=True, stable=True).indices[:, :k].sort(-1).values

    return route(*call, **options, choose=choose)


@honest(OP, profile=ALL, differs="one maximum after another; of equal scores the highest ids")
def takes_one_maximum_after_another(*call: Any, **options: Any) -> Result:
    def choose(within: Tensor, k: int) -> Tensor:
        rest = within.flip(-1).nan_to_num(nan=-1e30, neginf=-1e30)
        made = []
        for _ in range(k):
            made.append(rest.argmax(dim=-1))
            rest = rest.scatter(1, made[-1][:, None], -torch.inf)
        return within.shape[1] - 1 - torch.stack(made, dim=-1)

    return route(*call, **options, choose=choose)


@honest(OP, profile=ALL, differs="group scores as the best and the best of the rest, added")
def scores_groups_by_two_maxima(*call: Any, **options: Any) -> Result:
    def of_groups(of_group: Tensor) -> Tensor:
        first, place = of_group.max(dim=-1)
        rest = of_group.scatter(-1, place[..., None], -torch.inf)
        return rest.amax(dim=-1) + first

    return route(*call, **options, of_groups=of_groups)


@honest(OP, profile=ALL, differs="sigmoids by exponentials, weights by a reciprocal, scaled first")
def weighs_by_reciprocals(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    def score(x: Tensor) -> Tensor:
        return (1 + (-x).exp()).reciprocal()

    weights, experts = route(logits, bias, **options, score=score, norm=lambda w: w)
    if options["top_k"] > 1:
        p = score(logits).gather(1, experts)
        total = torch.zeros_like(p[:, 0])
        for j in range(p.shape[1]):
            total = total + p[:, j]
        weights = p * (options["scaling"] * (total + 1e-20).reciprocal())[:, None]
    return weights, experts


@honest(OP, array="numpy", profile=ALL, differs="NumPy, token after token, by argsort")
def routes_token_after_token(
    logits: Any, bias: Any, *, groups: int, top_groups: int, top_k: int, scaling: float
) -> Any:
    T, E = logits.shape
    weights = np.zeros((T, top_k), dtype=logits.dtype)
    experts = np.zeros((T, top_k), dtype=np.int64)
    for t in range(T):
        with np.errstate(over="ignore", invalid="ignore"):
            scores = 1 / (1 + np.exp(-logits[t]))
        biased = np.nan_to_num(scores + bias, nan=-1e30).reshape(groups, -1)
        best = np.sort(np.sort(biased, axis=1)[:, -2:].sum(axis=1).argsort()[::-1][:top_groups])
        ids = (best[:, None] * (E // groups) + np.arange(E // groups)).ravel()
        chosen = ids[np.argsort(-biased.ravel()[ids], kind="stable")[:top_k]]
        total = scores[chosen].sum() + logits.dtype.type(1e-20) if top_k > 1 else 1
        weights[t], experts[t] = scores[chosen] / total * logits.dtype.type(scaling), chosen
    return weights, experts
