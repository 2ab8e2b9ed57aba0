"""Calls of moe_experts, and what must stay the same when they are said otherwise.

Letters: T tokens, D hidden size, E experts, I hidden channels of an expert, C chosen experts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.formats import of_dtype
from lingspec.conformance.accuracy.profiles import Profile
from lingspec.conformance.case import Call, Case, CaseError, dtype_of
from lingspec.conformance.contract import Relation, Split, Values
from lingspec.conformance.contracts import _matrices
from lingspec.reference.ops.moe_experts import combined, expert

__all__ = [
    "FAMILIES", "INDEPENDENT", "RELATIONS", "ROUTES", "SPLITS", "WEIGHTS", "batched", "exact",
    "make",
]  # fmt: skip

FAMILIES = (
    "normal", "small", "heavy", "amplitudes", "zeros", "onehot", "constant", "saturated",
    "integers",
)  # fmt: skip
INDEPENDENT = ("normal", "heavy", "small", "amplitudes", "zeros", "saturated")
# spread: any experts; one: every token has the same one; few, last: the others are empty;
# even: as many tokens for each; foreign: a third are on other ranks; absent: whole rows are.
ROUTES = ("spread", "one", "few", "last", "even", "foreign", "absent")
WEIGHTS = ("usual", "equal", "signed", "dropped", "uneven", "powers")
UNIT = 64.0  # a gate of which silu is the identity, in every format


def make(case: Case) -> Call:
    """Rows, experts with weights of usual size, ids of a kind, weights of a kind."""
    a, family = case.axes, case.traits["values"]
    T, D, E, hidden, C = (a[n] for n in "TDEIC")
    if C > E:
        raise CaseError(f"case {str(case)!r} has C = {C}, but must have experts for all, E = {E}")
    g = values.rng(case.seed)
    if family == "integers":
        x, gate_up, down = _integers(T, D, E, hidden, g)
    else:
        tame = case.dtype == "f16"
        x = values.tokens("normal" if family == "saturated" else family, (1, T, D), g, salt=0,
                          tame=tame)[0]  # fmt: skip
        gate_up, down = (
            torch.randn(shape, generator=g, dtype=torch.float64) * shape[2] ** -0.5
            for shape in ((E, 2 * hidden, D), (E, D, hidden))
        )
        if family == "saturated":  # gates of a hundred, either way
            gate_up[:, :hidden] *= 100.0
    experts = _experts(case.traits["routing"], T, E, C, g)
    wide = dtype_of("state", case.torch_dtype)
    floats = {"x": x, "gate_up": gate_up, "down": down}
    tensors = {n: _matrices.matrix(case, t, turn, 3) for turn, (n, t) in enumerate(floats.items())}
    far = values.far_ones(case, tensors)
    tensors["experts"] = experts.to(torch.int32 if case.seed % 2 else torch.int64)
    tensors["weights"] = _weights(case.traits["weights"], (T, C), g).to(wide)
    return Call(case.op, tensors, {}, family in values.COHERENT, far=far)


def _integers(T: int, D: int, E: int, hidden: int, g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Gates of 0, 64 and 128, of which silu is the identity; everything else a small integer."""
    x = torch.zeros(T, D, dtype=torch.float64)
    x.scatter_(1, torch.randint(0, D, (T, 1), generator=g), 1.0)
    x *= torch.randint(1, 3, (T, 1), generator=g)
    gate = UNIT * torch.randint(0, 2, (E, hidden, D), generator=g)
    up = 2 * torch.randint(0, 2, (E, hidden, D), generator=g) - 1  # a 0 would be a hint
    up = up * torch.randint(1, 3, up.shape, generator=g)
    down = torch.randint(-2, 3, (E, D, hidden), generator=g)
    sparse = down * (torch.rand(down.shape, generator=g) < 0.5)
    return x, torch.cat([gate, up.double()], dim=1), sparse.double()


def _experts(kind: str, T: int, E: int, C: int, g: Generator) -> Tensor:
    """(T, C) ids, distinct in a row but for -1."""
    pool = torch.arange(E)
    if kind == "few":
        pool = torch.randperm(E, generator=g)[: max(C, E // 3)]
    elif kind == "last":
        pool = torch.arange(E - max(C, (E + 1) // 2), E)
    if kind == "even":
        return (torch.arange(T)[:, None] * C + torch.arange(C)) % E
    order = torch.rand(T, len(pool), generator=g).argsort(dim=1)[:, :C]
    ids = pool[order].view(T, C)
    if kind == "one":
        ids = _with_everywhere(ids, int(torch.randint(0, E, (1,), generator=g)), g)
    elif kind == "foreign":
        ids = ids.masked_fill(torch.rand(T, C, generator=g) < 1 / 3, -1)
    elif kind == "absent":
        ids = ids.masked_fill(torch.rand(T, 1, generator=g) < 0.5, -1)
    return ids


def _with_everywhere(ids: Tensor, e: int, g: Generator) -> Tensor:
    """Expert ``e`` in every row that lacks it, in some place."""
    lacks = ~(ids == e).any(dim=1, keepdim=True)
    place = torch.randint(0, ids.shape[1], (len(ids), 1), generator=g)
    here = torch.zeros_like(ids, dtype=torch.bool).scatter_(1, place, True)
    return ids.masked_fill(lacks & here, e)


def _weights(kind: str, shape: tuple[int, int], g: Generator) -> Tensor:
    """Weights as a router gives them, adding up to 2.5, and others."""
    x = torch.rand(shape, generator=g, dtype=torch.float64) + 0.05
    if kind == "equal":
        return torch.full(shape, 1 / max(shape[1], 1), dtype=torch.float64)
    if kind == "powers":
        return 2.0 ** torch.randint(-2, 3, shape, generator=g).double()
    x = 2.5 * x / x.sum(dim=1, keepdim=True)
    if kind == "signed":
        return x * (1 - 2 * torch.randint(0, 2, shape, generator=g))
    if kind == "dropped":
        return x * (torch.rand(shape, generator=g) < 0.5)
    return 2.5 * (x / 2.5) ** 8 if kind == "uneven" else x


def batched(x: Any, gate_up: Any, down: Any, experts: Tensor, weights: Any) -> Any:
    """The lines of the reference, for all experts at once: each has as many rows as the busiest."""
    T, C = experts.shape
    chosen = sorted(set(experts.flatten().tolist()) - {-1})
    results = x.new_zeros(T, C, x.shape[1])
    if not chosen:
        return combined(results, weights)
    of, place = torch.zeros_like(experts).long(), torch.zeros_like(experts).long()
    busiest = max(int((experts == e).sum()) for e in chosen)
    token = torch.zeros(len(chosen), busiest, dtype=torch.int64)
    for a, e in enumerate(chosen):
        here = experts == e
        count = int(here.sum())
        of[here], place[here] = a, torch.arange(count)
        token[a, :count] = here.nonzero()[:, 0]
    gate, up = gate_up[chosen].chunk(2, dim=1)
    made = expert(x[token], gate, up, down[chosen])  # (experts, rows, D)
    results = made[of, place].masked_fill((experts < 0)[..., None], 0.0)
    return combined(results, weights)


def exact(call: Call, profile: Profile) -> frozenset[str]:
    """Gates of which silu is the identity, and integers that every format on the way holds."""
    x, gate_up, down, ids, weights = call.tensors.values()
    if not x.numel() or not ids.numel():
        return frozenset({"y"})
    formats = [*profile.points.values(), of_dtype(x.dtype)]
    most = min(1 / f.u for f in formats)
    gate, up = gate_up.double().chunk(2, dim=1)
    rows, _ = (x.double() != 0).sum(dim=1).max(dim=0)
    gates = torch.einsum("td,eid->tei", x.double(), gate)
    ups = torch.einsum("td,eid->tei", x.double().abs(), up.abs())
    linear = bool(((gates == 0) | (gates >= UNIT)).all()) and bool((gates % UNIT == 0).all())
    act = gates / UNIT * ups
    results = torch.einsum("tei,edi->ted", act, down.double().abs())
    fractions = torch.frexp(weights.double()).mantissa.abs()
    whole = all(bool((t == t.round()).all()) for t in (x.double(), up, down.double()))
    powers = bool(((fractions == 0.5) | (fractions == 0)).all())
    largest = float(results.max()) * float(weights.double().abs().sum(dim=1).max())
    total = 4 * largest  # weights are in steps of 1/4
    fits = float(act.max()) <= most and float(results.max()) <= most and total < 2.0**24
    room = UNIT * max(largest, float(results.max())) < of_dtype(x.dtype).largest
    ok = linear and whole and powers and fits and room and int(rows) <= 1
    return frozenset({"y"} if ok else ())


# -- relations -------------------------------------------------------------------------------


def _same(before: Values, after: Values, _: Call) -> bool:
    size = float(before["y"].abs().max()) if before["y"].numel() else 0.0
    return torch.allclose(before["y"], after["y"], rtol=1e-11, atol=1e-12 * size)


def _renamed(call: Call, g: Generator) -> Call | None:
    """Experts in another order, under their new numbers."""
    t = call.tensors
    order = torch.randperm(len(t["down"]), generator=g)
    ids = t["experts"]
    moved = torch.where(ids < 0, ids, order.argsort().to(ids.dtype)[ids.clamp(min=0).long()])
    return call.with_tensors(gate_up=t["gate_up"][order], down=t["down"][order], experts=moved)


def _reordered(call: Call, g: Generator) -> Call | None:
    """The choices of every token in an order of its own."""
    ids = call.tensors["experts"]
    order = torch.rand(ids.shape, generator=g).argsort(dim=1)
    return call.with_tensors(
        experts=ids.gather(1, order), weights=call.tensors["weights"].gather(1, order)
    )


def _unused(call: Call, _: Generator) -> Call | None:
    """Experts that nobody chose are loud."""
    t = call.tensors
    idle = torch.ones(len(t["down"]), dtype=torch.bool)
    idle[t["experts"][t["experts"] >= 0].long()] = False
    if not bool(idle.any()):
        return None
    most = 2.0**6 if t["down"].dtype == torch.float16 else 2.0**12
    loud = torch.where(idle, most, 1.0).to(t["down"].dtype)[:, None, None]
    return call.with_tensors(gate_up=t["gate_up"] * loud, down=t["down"] * loud)


def _loud_foreigners(call: Call, _: Generator) -> Call | None:
    """The weights of expert -1 are others."""
    ids, weights = call.tensors["experts"], call.tensors["weights"]
    if not bool((ids < 0).any()):
        return None
    return call.with_tensors(weights=torch.where(ids < 0, 1e3, weights))


def _weightless(call: Call, _: Generator) -> Call | None:
    """A weight of 0 in place of expert -1, and expert -1 in place of a weight of 0."""
    ids, weights = call.tensors["experts"], call.tensors["weights"]
    gone, none = ids < 0, weights == 0
    if not bool((gone ^ none).any()):
        return None
    rows, E = ids.tolist(), len(call.tensors["down"])
    for row in rows:  # experts that it lacks, as far as there are any
        free = iter(sorted(set(range(E)) - set(row)))
        row[:] = [next(free, -1) if e < 0 else e for e in row]
    ids = torch.tensor(rows, dtype=ids.dtype).view(ids.shape)
    return call.with_tensors(
        experts=torch.where(none & ~gone, -1, ids).to(ids.dtype),
        weights=weights.masked_fill(gone, 0.0),
    )


def _doubled(call: Call, g: Generator) -> Call | None:
    """Every expert twice: half of its tokens go to the other one."""
    t = call.tensors
    ids, E = t["experts"], len(t["down"])
    other = (torch.rand(ids.shape, generator=g) < 0.5) & (ids >= 0)
    return call.with_tensors(
        gate_up=torch.cat([t["gate_up"], t["gate_up"].flip(0)]),
        down=torch.cat([t["down"], t["down"].flip(0)]),
        experts=torch.where(other, 2 * E - 1 - ids, ids),
    )  # fmt: skip


RELATIONS = {
    "renamed": Relation("experts in another order", "invariance", _renamed, _same),
    "reordered": Relation("choices of a token in another order", "invariance", _reordered, _same),
    "unused": Relation("other weights of experts that nobody chose", "invariance", _unused, _same),
    "foreigners": Relation("other weights of expert -1", "invariance", _loud_foreigners, _same),
    "weightless": Relation("a weight of 0 is no expert", "identities", _weightless, _same),
    "doubled": Relation("experts twice, their tokens shared", "identities", _doubled, _same),
}


# -- shards that add up ----------------------------------------------------------------------


def _experts_of(call: Call, rank: int, ranks: int) -> Call:
    t = call.tensors
    E = len(t["down"])
    first, last = E * rank // ranks, E * (rank + 1) // ranks
    if first == last:  # a rank without experts has one that nobody chooses
        first, last = 0, 1
        ids = torch.full_like(t["experts"], -1)
    else:
        ids = t["experts"]
    here = (ids >= first) & (ids < last)
    part = slice(first, last)
    return call.with_tensors(
        gate_up=t["gate_up"][part], down=t["down"][part],
        experts=torch.where(here, ids - first, -1).to(ids.dtype),
    )  # fmt: skip


def _channels_of(call: Call, rank: int, ranks: int) -> Call:
    """Rows of gate and of up, and the columns of down that belong to them."""
    t = call.tensors
    hidden = t["down"].shape[2]
    part = slice(hidden * rank // ranks, hidden * (rank + 1) // ranks)
    if part.start == part.stop:  # a rank without channels has one of experts on other ranks
        none = torch.full_like(t["experts"], -1)
        return _channels_of(call.with_tensors(experts=none), 0, hidden)
    gate, up = t["gate_up"].chunk(2, dim=1)
    return call.with_tensors(
        gate_up=torch.cat([gate[:, part], up[:, part]], dim=1), down=t["down"][:, :, part]
    )


def _choices_of(call: Call, rank: int, ranks: int) -> Call:
    t = call.tensors
    C = t["experts"].shape[1]
    mine = torch.arange(C) % ranks == rank
    return call.with_tensors(experts=t["experts"].masked_fill(~mine, -1))


SPLITS = {
    "experts": Split("experts shared out", _experts_of),
    "channels": Split("hidden channels shared out", _channels_of),
    "choices": Split("choices shared out", _choices_of),
}
