"""What the contracts of the router and the experts say is so, and what they catch."""

from __future__ import annotations

import pytest
import torch
from perturbed import noise

from lingspec import reference
from lingspec.conformance.accuracy.analysis import Analysis
from lingspec.conformance.accuracy.power import less_precise, rejected
from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.case import dtype_of
from lingspec.conformance.contracts import contract, moe_experts
from lingspec.conformance.laws import LAWS
from lingspec.conformance.plan import plan
from lingspec.conformance.registry import honest, mutants
from lingspec.conformance.run import laws_for
from lingspec.conformance.values import rng
from lingspec.reference import rounding

OPS = ("moe_logits", "moe_route", "moe_experts", "fp8_quantize", "fp8_dequantize")
NUMBERS = ("moe_logits", "moe_experts")
# Of logits of which no two are so near that a bias of 12 makes them equal.
DECIDED = ("normal", "favourite")
PROFILES = ("bf16-eager", "bf16-tc", "tf32", "fp32+spec=bf16")


def cases(op, law, dtype="f64", seed=0):
    return plan(contract(op), (law,), dtype, "native", "ci", seed)


def results(op, call):
    made = getattr(reference, op)(**call.tensors, **call.params)
    made = made if isinstance(made, tuple) else (made,)
    return dict(zip(contract(op).results, made, strict=True))


def finite(call):
    return all(bool(x.float().isfinite().all()) for x in call.tensors.values())


@pytest.mark.parametrize("op", [op for op in OPS if contract(op).relations])
def test_every_relation_holds_in_the_reference(op):
    told = set()
    for name, relation in contract(op).relations.items():
        for case in [c for seed in range(4) for c in cases(op, relation.kind, seed=seed)]:
            if case.traits.get("logits", "normal") not in DECIDED:
                continue
            call = contract(op).make(case)
            other = relation.make(call, rng(case.seed, relation.sentence))
            if other is None or not (finite(call) and finite(other)):
                continue
            assert relation.holds(results(op, call), results(op, other), call), (name, case)
            told.add(name)
    assert told == contract(op).relations.keys()


@pytest.mark.parametrize("op", ["moe_logits", "moe_experts"])
def test_the_shards_of_every_split_add_up(op):
    for name, split in contract(op).splits.items():
        for case in cases(op, "sharding"):
            call = contract(op).make(case)
            whole = results(op, call)
            parts = [results(op, split.shard(call, rank, 4)) for rank in range(4)]
            for result, y in whole.items():
                total = sum(part[result] for part in parts)
                size = max(float(p[result].abs().max()) for p in parts)
                assert torch.allclose(total, y, rtol=0, atol=1e-13 * size), (name, case)


@pytest.mark.parametrize(("op", "dtype"), [(op, d) for op in OPS for d in ("f32", "bf16", "f16")])
def test_what_is_said_to_be_exact_is_so_in_every_variant(op, dtype):
    of, claimed = contract(op), 0
    if of.exact is None:
        return
    for case in cases(op, "exact", dtype):
        call = of.make(case)
        for name in ("fp32", {"f32": "tf32", "bf16": "bf16-tc", "f16": "fp16-tc"}[dtype]):
            used = profile(name)
            exact = of.exact(call, used)
            claimed += len(exact)
            want = of.authority(call, used)
            for made in of.variants(call, used):
                for result in exact:
                    dtype_ = made[result].dtype
                    assert torch.equal(
                        made[result].double(), want[result].value.to(dtype_).double()
                    ), (case, name)
    assert claimed >= 12


def test_experts_at_once_are_the_lines_of_the_reference_in_value_and_in_limit():
    used = profile("fp32+spec=bf16")
    of = contract("moe_experts")
    alone = Analysis(reference.moe_experts, moe_experts.INPUTS, moe_experts.OUTPUTS)
    for case in cases("moe_experts", "authority", "bf16"):
        call = of.make(case)
        at_once, one_by_one = of.authority(call, used)["y"], alone.authority(call, used)["y"]
        size = float(one_by_one.value.abs().max()) if one_by_one.value.numel() else 0.0
        close = torch.allclose(at_once.value, one_by_one.value, rtol=1e-12, atol=1e-13 * size)
        assert close, case
        assert torch.allclose(at_once.limit, one_by_one.limit, rtol=1e-6, atol=1e-300), case


@pytest.mark.parametrize("worst", [False, True])
@pytest.mark.parametrize("op", NUMBERS)
def test_no_perturbed_run_leaves_the_bound(op, worst):
    of = contract(op)
    for case in cases(op, "authority"):
        call = of.make(case)
        g = torch.Generator().manual_seed(case.seed)
        for name in PROFILES:
            used = profile(name)
            want = of.authority(call, used)
            with rounding(noise(used, g, worst=worst)):
                got = results(op, call)
            for result, x in got.items():
                limits = want[result]
                assert bool(((x - limits.value).abs() <= limits.bound).all()), (case, name)


@pytest.mark.parametrize(("op", "dtype", "name"), [
    ("moe_logits", "f32", "fp32"), ("moe_route", "f32", "fp32"), ("moe_experts", "f32", "fp32"),
    ("moe_experts", "bf16", "fp32+spec=bf16"), ("moe_experts", "f16", "fp32+spec=fp16"),
    ("fp8_quantize", "f32", "fp32"), ("fp8_dequantize", "f32", "fp32"),
    ("moe_experts", "f64", "fp64"), ("moe_logits", "f64", "fp64"),
])  # fmt: skip
def test_a_less_precise_profile_is_rejected(op, dtype, name):
    of, used, killed = contract(op), profile(name), 0
    for case in cases(op, "authority", dtype):
        call = of.make(case)
        want = of.authority(call, used)
        if not all(e.finite() for e in want.values()):
            continue
        specs = {s.name: dtype_of(s.dtype, case.torch_dtype) for s in of.outputs}
        honest_ = of.variants(call, used)
        wrong = less_precise(of, call, used, want).values()
        killed += any(rejected(w, want, specs, honest_) for w in wrong)
    assert killed >= 3


@pytest.mark.parametrize("op", OPS)
def test_every_law_of_an_op_is_named_by_a_mutant(op):
    named = {
        law for e in mutants().values() if e.declaration.op == op
        for law in e.declaration.extra["laws"]
    }  # fmt: skip
    assert set(laws_for(contract(op))) <= named <= set(LAWS)


LEAST = {
    "moe_route": (12, 4), "moe_experts": (12, 4), "moe_logits": (6, 3), "fp8_quantize": (8, 3),
    "fp8_dequantize": (8, 3),
}  # fmt: skip


@pytest.mark.parametrize("op", OPS)
def test_there_are_enough_wrong_and_right_implementations(op):
    for entries, least in zip((mutants(), honest()), LEAST[op], strict=True):
        assert sum(e.declaration.op == op for e in entries.values()) >= least


def test_a_row_that_must_choose_an_expert_of_minus_infinity_may_choose_any():
    of = contract("moe_route")
    found = 0
    for case in cases("moe_route", "authority", "f32", 1):
        if case.traits["logits"] != "masked":
            continue
        call = of.make(case)
        routed = of.authority(call, profile("fp32"))["experts"]
        k = call.params["top_k"]
        for t in routed.free.nonzero().flatten().tolist():
            ids = routed.value.long().clone()
            ids[t] = torch.arange(k)
            assert routed.problem(ids, torch.int64) is None
            ids[t] = 0
            assert k == 1 or routed.problem(ids, torch.int64) is not None
            found += 1
    assert found
