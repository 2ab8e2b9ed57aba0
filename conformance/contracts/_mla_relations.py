"""What mla_attention gives exactly, and the calls that must give the same.

Letters: B batch, T queries, S keys, H heads.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from lingspec.conformance.accuracy.profiles import Profile
from lingspec.conformance.case import Call
from lingspec.conformance.contract import Relation, Values

__all__ = ["RELATIONS", "exact"]

# -- what comes out exactly ------------------------------------------------------------------

ALONE = {torch.float64: 800.0}  # exp(-this) is 0; in every other format exp(-128) is nothing


def exact(call: Call, profile: Profile) -> frozenset[str]:
    """O, where every query's best key has a weight of 1 and all others underflow to 0.

    Integers of 15 at most fit every format; what is not asked is whether scores fit theirs.
    """
    t = call.tensors
    narrow = [f for p, f in profile.points.items() if p in ("qk", "scaled")]
    if t["q"].numel() == 0:
        return frozenset({"o"})
    gap = ALONE.get(t["q"].dtype, 160.0)
    spans = _spans(call)
    for (a, b), (c, d) in spans:
        q, k = (t[n].double().transpose(1, 2) for n in "qk")
        s = call.params["scale"] * (q[:, :, a:b] @ k[:, :, c:d].mT)
        hidden = torch.ones(b - a, d - c, dtype=torch.bool).triu(d - c - b + a + 1)
        best = s.masked_fill(hidden, -torch.inf)
        two = best.topk(min(2, d - c), dim=-1).values if d > c else best
        alone = two.shape[-1] < 2 or bool((two[..., 0] - two[..., 1] >= gap).all())
        fits = all(bool(((f.cast(s) - s).abs() <= 0).all()) for f in narrow)
        if not (alone and fits):
            return frozenset()
    return frozenset({"o"})


def _spans(call: Call) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    t = call.tensors
    if "cu_seqlens" not in t:
        return [((0, t["q"].shape[1]), (0, t["k"].shape[1]))]
    ends = t["cu_seqlens"].tolist()
    ends_k = t.get("cu_seqlens_k", t["cu_seqlens"]).tolist()
    return list(zip(zip(ends, ends[1:], strict=False), zip(ends_k, ends_k[1:], strict=False),
                    strict=True))  # fmt: skip


# -- relations -------------------------------------------------------------------------------


def _packed(call: Call) -> bool:
    return "cu_seqlens" in call.tensors


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def _same(before: Values, after: Values, _: Call) -> bool:
    return all(_close(before[n], after[n]) for n in ("o", "lse"))


def _reshifted(call: Call, _: Generator) -> Call | None:
    """Where one channel is the same in all keys and in all queries: that of the keys negated."""
    q, k = call.tensors["q"], call.tensors["k"]
    level = q.numel() and bool((k[..., 0] == k[:1, :1, :1, 0]).all() and
                               (q[..., 0] == q[:1, :1, :1, 0]).all())  # fmt: skip
    if not level or not bool(k[..., 0].any()):
        return None
    other = k.clone()
    other[..., 0] = -k[..., 0]
    return call.with_tensors(k=other)


def _shifts(before: Values, after: Values, call: Call) -> bool:
    q, k = call.tensors["q"].double(), call.tensors["k"].double()
    by = -2 * call.params["scale"] * float(q[0, 0, 0, 0] * k[0, 0, 0, 0])
    shifted = {**before, "lse": before["lse"] + by}
    tolerance = 1e-12 * (1 + abs(by))
    return torch.allclose(shifted["o"], after["o"], rtol=1e-6, atol=tolerance) and torch.allclose(
        shifted["lse"], after["lse"], rtol=1e-9, atol=tolerance
    )


def _prefix_turned(call: Call, _: Generator) -> Call | None:
    """The keys that every query sees, the other way round, with their values."""
    T, S = call.tensors["q"].shape[1], call.tensors["k"].shape[1]
    if _packed(call) or T == 0 or S - T < 1:
        return None
    order = torch.cat([torch.arange(S - T, -1, -1), torch.arange(S - T + 1, S)])
    return call.with_tensors(**{n: call.tensors[n][:, order] for n in "kv"})


def _channels_turned(call: Call, _: Generator) -> Call | None:
    """Channels of queries and keys from the end."""
    return call.with_tensors(**{n: call.tensors[n].flip(-1) for n in "qk"})


def _last_queries(call: Call, g: Generator) -> Call | None:
    """Some of the last queries, with all keys."""
    T = call.tensors["q"].shape[1]
    if _packed(call) or T < 2:
        return None
    first = 1 + int(torch.randint(0, T - 1, (1,), generator=g))
    return call.with_tensors(q=call.tensors["q"][:, first:])


def _last_of(before: Values, after: Values, _: Call) -> bool:
    count = after["o"].shape[1]
    return _same({n: x[:, x.shape[1] - count :] for n, x in before.items()}, after, _)


def _first_tokens(call: Call, g: Generator) -> Call | None:
    """The call without some of the last tokens."""
    T, S = call.tensors["q"].shape[1], call.tensors["k"].shape[1]
    if _packed(call) or T < 2:
        return None
    left = 1 + int(torch.randint(0, T - 1, (1,), generator=g))
    parts = {n: call.tensors[n][:, : S - left] for n in "kv"}
    return call.with_tensors(q=call.tensors["q"][:, : T - left], **parts)


def _first_of(before: Values, after: Values, _: Call) -> bool:
    count = after["o"].shape[1]
    return _same({n: x[:, :count] for n, x in before.items()}, after, _)


def _scaled(call: Call, _: Generator) -> Call | None:
    """Queries four times as large, with a fourth of the scale."""
    if bool((call.tensors["q"].abs() > 1e4).any()):
        return None
    less = {**call.params, "scale": call.params["scale"] / 4}
    return replace(call.with_tensors(q=4 * call.tensors["q"]), params=less)


def _alone(call: Call, _: Generator) -> Call | None:
    """One sequence, packed as such."""
    q, k = call.tensors["q"], call.tensors["k"]
    if _packed(call) or q.shape[0] != 1:
        return None
    ends = {"cu_seqlens": q.shape[1], "cu_seqlens_k": k.shape[1]}
    return call.with_tensors(**{n: torch.tensor([0, size]) for n, size in ends.items()})


def _twice(call: Call, _: Generator) -> Call | None:
    """Every key twice, for one query."""
    if _packed(call) or call.tensors["q"].shape[1] != 1:
        return None
    return call.with_tensors(**{n: torch.cat([call.tensors[n]] * 2, dim=1) for n in "kv"})


def _log_two_more(before: Values, after: Values, call: Call) -> bool:
    log_two = torch.tensor(2.0, dtype=torch.float64).log()
    return _same({**before, "lse": before["lse"] + log_two}, after, call)


RELATIONS = {
    "shifted": Relation("another shift of all logits", "invariance", _reshifted, _shifts),
    "prefix": Relation("keys that all see, reordered", "invariance", _prefix_turned, _same),
    "channels": Relation("channels from the end", "invariance", _channels_turned, _same),
    "last": Relation("the last queries alone", "identities", _last_queries, _last_of),
    "first": Relation("the first tokens alone", "identities", _first_tokens, _first_of),
    "scale": Relation("the scale moved into the queries", "identities", _scaled, _same),
    "packed": Relation("one sequence packed", "identities", _alone, _same),
    "twice": Relation("every key twice", "identities", _twice, _log_two_more),
}  # fmt: skip
