"""The calls of mla_decode that must give the same.

Letters: L latent rank, P pages, G rows of a page.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Relation, Values
from lingspec.conformance.contracts import _pages

__all__ = ["RELATIONS"]


def _same(before: Values, after: Values, _: Call) -> bool:
    return all(
        torch.allclose(before[n], after[n], rtol=1e-6, atol=1e-9) for n in ("o_latent", "lse")
    )


def _rows(call: Call) -> list[Tensor]:
    t = call.tensors
    return _pages.rows_of(t["cache"], t["pages"], t["lengths"])


def _stored(call: Call, rows: list[Tensor], G: int) -> Call:
    """The call on sequences of other rows, in a cache of its own."""
    t = call.tensors
    cache, pages = _pages.stored(rows, t["cache"], G)
    lengths = torch.tensor([len(x) for x in rows], dtype=t["lengths"].dtype)
    return call.with_tensors(cache=cache, pages=pages.to(t["pages"].dtype), lengths=lengths)


def _reshifted(call: Call, _: Generator) -> Call | None:
    """Where one rotated channel is the same in all rows and queries: that of the rows negated."""
    q, L = call.tensors["q_rope"], call.tensors["q_latent"].shape[2]
    rows = torch.cat([x[:, L] for x in _rows(call)]) if len(q) else q.new_zeros(0)
    if not rows.numel() or not bool((rows == rows[0]).all() and (q[..., 0] == q[0, 0, 0]).all()):
        return None
    cache = call.tensors["cache"].clone()
    cache[..., L] = -rows[0]
    return call.with_tensors(cache=cache)


def _shifts(before: Values, after: Values, call: Call) -> bool:
    q, L = call.tensors["q_rope"], call.tensors["q_latent"].shape[2]
    row = torch.cat([x[:, L] for x in _rows(call)])[0].double()
    by = -2 * call.params["scale"] * float(q[0, 0, 0].double() * row)
    return _same({**before, "lse": before["lse"] + by}, after, call)


def _renamed(call: Call, _: Generator) -> Call | None:
    """Pages counted from the end."""
    cache, pages = call.tensors["cache"], call.tensors["pages"]
    behind = _pages.unused(cache, pages, call.tensors["lengths"])[1]
    other = torch.where(behind, pages, len(cache) - 1 - pages)
    return call.with_tensors(cache=cache.flip(0), pages=other)


def _turned(call: Call, _: Generator) -> Call | None:
    """The rows of every sequence from its end, in pages of its own."""
    rows = [x.flip(0) for x in _rows(call)]
    return _stored(call, rows, call.tensors["cache"].shape[1])


def _repaged(call: Call, g: Generator) -> Call | None:
    """The same rows in pages of another size."""
    now = call.tensors["cache"].shape[1]
    sizes = [n for n in (1, 2, 7, 16, 48, 64) if n != now]
    G = sizes[int(torch.randint(0, len(sizes), (1,), generator=g))]
    return _stored(call, _rows(call), G)


def _scaled(call: Call, _: Generator) -> Call | None:
    """Queries four times as large, with a fourth of the scale."""
    more = {n: 4 * call.tensors[n] for n in ("q_latent", "q_rope")}
    if any(bool((x.abs() > 4e4).any()) for x in more.values()):
        return None
    return replace(
        call.with_tensors(**more), params={**call.params, "scale": call.params["scale"] / 4}
    )


def _twice(call: Call, _: Generator) -> Call | None:
    """Every row twice."""
    rows = [torch.cat([x, x]) for x in _rows(call)]
    return _stored(call, rows, call.tensors["cache"].shape[1])


def _log_two_more(before: Values, after: Values, call: Call) -> bool:
    log_two = torch.tensor(2.0, dtype=torch.float64).log()
    return _same({**before, "lse": before["lse"] + log_two}, after, call)


def _one_left(call: Call, g: Generator) -> Call | None:
    """All sequences but one of length 0."""
    lengths = call.tensors["lengths"]
    if len(lengths) < 2:
        return None
    kept = int(torch.randint(0, len(lengths), (1,), generator=g))
    return call.with_tensors(lengths=lengths * (torch.arange(len(lengths)) == kept))


def _left_alone(before: Values, after: Values, call: Call) -> bool:
    live = after["lse"].isfinite().any(dim=1)
    return bool(live.sum() <= 1) and _same(
        {n: x[live] for n, x in before.items()}, {n: x[live] for n, x in after.items()}, call
    )


RELATIONS = {
    "shifted": Relation("another shift of all logits", "invariance", _reshifted, _shifts),
    "renamed": Relation("pages renamed from the end", "invariance", _renamed, _same),
    "turned": Relation("the rows of every sequence reversed", "invariance", _turned, _same),
    "left": Relation("all other sequences empty", "invariance", _one_left, _left_alone),
    "repaged": Relation("pages of another size", "identities", _repaged, _same),
    "scale": Relation("the scale moved into the queries", "identities", _scaled, _same),
    "twice": Relation("every row twice", "identities", _twice, _log_two_more),
}
