"""The contracts of the norms, of swiglu and of the rotary ops."""

from __future__ import annotations

import functools

import pytest
import torch

from lingspec import reference
from lingspec.conformance.accuracy.analysis import tupled
from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.adapters.reference import SPEC
from lingspec.conformance.case import DTYPES
from lingspec.conformance.contracts import contract
from lingspec.conformance.plan import draw
from lingspec.conformance.registry import mutants
from lingspec.conformance.run import laws_for
from lingspec.conformance.values import rng

OPS = (
    "rms_norm", "add_rms_norm", "gated_group_rms_norm", "rope_table", "partial_rope",
    "interleaved_rope", "qk_norm_rope", "swiglu",
)  # fmt: skip
SHORT = {str(d).removeprefix("torch."): short for short, d in DTYPES.items()}


def results(op, call, dtype=torch.float64):
    given = {n: x.to(dtype) if x.is_floating_point() else x for n, x in call.tensors.items()}
    if dtype == torch.float64 and "positions" in given:
        given["positions"] = given["positions"].double()
    made = tupled(getattr(reference, op)(**given, **call.params))
    return dict(zip(contract(op).results, made, strict=True))


def calls(op, law, dtype, count=14):
    of = contract(op)
    cases = [draw(of, law, "native", dtype, 3, n) for n in range(count)]
    return [(case, of.make(case)) for case in cases]


def used(op, dtype):
    return profile(SPEC[next(long for long, short in SHORT.items() if short == dtype)])


RELATIONS = [(op, name) for op in OPS for name in contract(op).relations]


@pytest.mark.parametrize(("op", "name"), RELATIONS)
def test_a_relation_holds_of_the_specification_in_float64(op, name):
    of, held = contract(op), 0
    relation = of.relations[name]
    for case, call in calls(op, relation.kind, "f32"):
        other = relation.make(call, rng(case.seed, "test"))
        if other is None:
            continue
        before, after = (results(op, c) for c in (call, other))
        assert relation.holds(before, after, call), str(case)
        held += 1
    assert held >= 3


EXACT = [
    (op, SHORT[long]) for op in OPS for long in contract(op).profiles
    if contract(op).exact is not None
]  # fmt: skip


@pytest.mark.parametrize(("op", "dtype"), EXACT)
def test_what_is_said_to_be_exact_has_the_bits_of_the_authority(op, dtype):
    of, said = contract(op), 0
    for case, call in calls(op, "exact", dtype):
        exact = of.exact(call, used(op, dtype))
        got = tupled(getattr(reference, op)(**call.tensors, **call.params))
        want = of.authority(call, used(op, dtype))
        for name, x in zip(of.results, got, strict=True):
            if name in exact:
                assert torch.equal(x, want[name].value.to(x.dtype)), (str(case), name)
                said += 1
    norms = op in ("rms_norm", "gated_group_rms_norm", "qk_norm_rope")
    assert said > 0 or (norms and dtype in ("f32", "f64"))


@pytest.mark.parametrize("op", OPS)
def test_cases_of_every_law_can_be_read_again_and_judged(op):
    of, seen = contract(op), set()
    for law in laws_for(of):
        for case, _ in calls(op, law, "f32", 3):
            assert of.parse(str(case)) == case
            seen.add(str(case))
    assert len(seen) > 2 * len(laws_for(of))


@pytest.mark.parametrize("op", OPS)
def test_every_law_but_the_first_has_a_mutant_of_its_own(op):
    """Agreement with the authority is a part of every law, so no mutant is its alone."""
    reach = [
        e for e in mutants().values()
        if e.declaration.op == op and e.module.endswith(("_reach", "_sizes", "_triton"))
    ]  # fmt: skip
    told = {e.declaration.extra["laws"][0] for e in reach}
    assert set(laws_for(contract(op))) - {"authority"} <= told


def spoiled(call):
    """Calls with one argument that does not fit, each with the argument's name."""
    for name, x in call.tensors.items():
        if x.is_floating_point():
            if name != "positions":
                yield name, call.with_tensors(**{name: x.to(torch.int64)})
            longer_heads = call.op == "partial_rope" and name == "x"  # these only pass
            if len(call.tensors) > 1 and not longer_heads:
                wrong = torch.cat([x, x[..., :1]], -1)
                yield name, call.with_tensors(**{name: wrong})


@pytest.mark.parametrize("op", [op for op in OPS if op != "rope_table"])
def test_an_argument_that_does_not_fit_is_refused_by_name(op):
    of = contract(op)
    case = draw(of, "untouched", "native", "bf16", 1, 2)
    call, refused = of.make(case), 0
    for _, bad in spoiled(call):
        with pytest.raises(reference.ContractError) as told:
            getattr(reference, op)(**bad.tensors, **bad.params)
        # A shape that does not fit another may be told of either; `x` stands for q and k.
        named = {*call.tensors, *call.params, "x", "weight"}
        assert str(told.value).split(" has ")[0] in named
        refused += 1
    assert refused >= 1


@pytest.mark.parametrize("op", ["rms_norm", "add_rms_norm", "gated_group_rms_norm", "qk_norm_rope"])
@pytest.mark.parametrize("eps", [0.0, -1e-6])
def test_an_eps_that_is_not_positive_is_refused(op, eps):
    call = calls(op, "untouched", "f32", 1)[0][1]
    with pytest.raises(reference.ContractError, match="eps has value"):
        getattr(reference, op)(**call.tensors, **{**call.params, "eps": eps})


@pytest.mark.parametrize("op", OPS)
def test_results_of_the_next_lower_precision_are_outside(op):
    of, outside = contract(op), 0
    strict = profile("fp32")
    for _, call in calls(op, "authority", "f32"):
        want = of.authority(call, strict)
        narrow = of.variants(call, profile("bf16-tc"))
        worst = (w.worst(v[n], v) for v in narrow for n, w in want.items() if w.value.numel())
        outside += max(worst, default=0.0) > 1
    assert outside >= 5


@functools.cache
def passing(dtype):
    of = contract("partial_rope")
    made = []
    for _, call in calls("partial_rope", "authority", dtype):
        want = of.authority(call, used("partial_rope", dtype))["y"]
        made.append((call, want, 2 * call.tensors["cos"].shape[-1]))
    return made


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_dims_that_pass_have_no_room_to_err(dtype):
    seen = 0
    for call, want, R in passing(dtype):
        rest = want.limit[..., R:]
        assert torch.equal(want.value[..., R:], call.tensors["x"].double()[..., R:])
        assert not rest.numel() or float(rest.max()) <= 2.0**-24
        seen += rest.numel()
    assert seen > 0


@pytest.mark.parametrize("op", ["add_rms_norm"])
def test_a_sum_that_is_handed_on_has_room_for_one_rounding(op):
    of = contract(op)
    for _, call in calls(op, "authority", "bf16"):
        want = of.authority(call, profile("bf16-tc"))["residual_out"]
        size = want.value.abs()
        assert bool((want.limit <= 2.0**-8 * size * (1 + 2.0**-6) + 1e-30).all())
