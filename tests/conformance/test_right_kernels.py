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
