"""What once refused, or accused, a kernel that is right."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lingspec.conformance import run
from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.case import dtype_of
from lingspec.conformance.contracts import contract
from lingspec.conformance.integrity import _tells
from lingspec.conformance.laws import exact
from lingspec.conformance.looks_like import _undeclared
from lingspec.conformance.runner.outcome import TargetRefused

SUM = "add_rms_norm:exact.f32.B1.T1.D8.whole.dense.rank3.1bc9"
DROWNED = "moe_route:authority.f32.T31.E16.G1.S1.C4.drowned.raised.fused.289c"


def _session(text, name):
    of, used = contract(text.partition(":")[0]), profile(name)
    case = of.parse(text)
    call = of.make(case)
    return SimpleNamespace(
        contract=of, call=call, profile=used, authority=of.authority(call, used),
        variants=of.variants(call, used), dtype_of=lambda _: dtype_of("input", case.torch_dtype),
    )  # fmt: skip


@pytest.mark.parametrize(("name", "is_exact"), [("fp32", True), ("bf16-tc", False)])
def test_what_a_declared_rounding_changes_is_not_exact(name, is_exact):
    assert ("residual_out" in exact.results(_session(SUM, name))) == is_exact


@pytest.mark.parametrize("name", ["fp32", "bf16-eager"])
def test_a_router_that_rounds_scores_as_it_declares_is_inside_its_limits(name):
    session = _session(DROWNED, name)
    for results in session.variants:
        for result, want in session.authority.items():
            assert want.problem(results[result], results[result].dtype, (), results) is None


def test_only_a_result_that_says_something_tells_of_another_call():
    one, other = torch.arange(8.0).double(), torch.arange(8.0).flip(0).double()
    assert _tells(one, other)
    assert not _tells(one, one)
    assert not _tells(torch.full((8,), 0.125).double(), other)


def test_numpy_arrays_in_bfloat16_need_a_package(monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    candidate = SimpleNamespace(
        name="f", op="rms_norm", array="numpy", profile={"bfloat16": "bf16-tc"}, takes=None
    )
    with pytest.raises(TargetRefused, match="ml_dtypes") as refused:
        run.parts(candidate, contract("rms_norm"))
    assert refused.value.kind == "environment"


# A query that is rounded with the scale in it moves the scores of all keys alike.
SHIFTED = "mla_attention:permutation.f16.B1.T63.S63.H3.K24.V16.shifted.dense.2dc6"
HUGE = "mla_attention:determinism.bf16.B3.T13.S21.H3.K16.V16.huge.dense.e6f0"
NORMAL = "mla_attention:authority.bf16.B1.T32.S48.H5.K48.V8.normal.dense.4405"
ROUNDED = {"f16": ("fp16-tc", "fp16-tc+q=fp16"), "bf16": ("bf16-tc", "bf16-tc+q=bf16")}


def _scaled_first(q, k, v, scale):
    T, S = q.shape[1], k.shape[1]
    scaled = (q.float() * scale).to(q.dtype).float()
    scores = torch.einsum("bthk,bshk->bhts", scaled, k.float())
    scores = scores.masked_fill(torch.ones(T, S, dtype=torch.bool).triu(S - T + 1), -torch.inf)
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None]).exp().to(q.dtype)
    o = torch.einsum("bhts,bshv->bthv", weights.float(), v.float())
    return {"o": o.to(q.dtype), "lse": lse.mT}


@pytest.mark.parametrize("text", [SHIFTED, HUGE, NORMAL])
def test_a_query_may_be_rounded_with_the_scale_in_it_where_that_is_declared(text):
    strict, told = ROUNDED[text.split(".")[1]]
    t = (session := _session(text, told)).call.tensors
    results = _scaled_first(t["q"], t["k"], t["v"], session.call.params["scale"])

    def wrong(name):
        want = _session(text, name).authority
        return [n for n, e in want.items() if e.problem(results[n], results[n].dtype, (), results)]

    assert wrong(told) == []
    assert "lse" in wrong(strict)


def test_a_failure_is_told_what_would_have_to_be_declared():
    session = _session(NORMAL, "bf16-tc")
    t = session.call.tensors
    results = _scaled_first(t["q"], t["k"], t["v"], session.call.params["scale"])
    found = _undeclared(session.contract, session.call, "bf16-tc", results, ["lse"])
    assert found.startswith("roundings that bf16-tc does not permit; within ")
    assert "bf16-tc+q=bf16" in found
    nothing = {n: torch.zeros_like(x) for n, x in results.items()}
    assert not _undeclared(session.contract, session.call, "bf16-tc", nothing, ["lse"])
