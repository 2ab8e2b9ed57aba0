"""What a profile permits is inside its limits: emulated implementations are never rejected."""

from __future__ import annotations

import pytest

from lingspec.conformance.accuracy import asked as points
from lingspec.conformance.accuracy.profiles import MODIFIERS, NAMES, profile
from lingspec.conformance.case import dtype_of
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.explain import describe
from lingspec.conformance.plan import draw
from lingspec.conformance.run import SHORT

CASES = 3


def everything(form: str) -> str:
    """All that may be declared in a format of 16 bits, together."""
    return "+".join((f"{form}-eager", *(m for m in MODIFIERS if m.endswith(form))))


PROFILES = (*NAMES, everything("bf16"), everything("fp16"), "fp32+q=bf16", "fp32+spec=bf16")
# Of bits there are no limits.
KINDS = [(op, d) for op in OPS if not contract(op).algebra.bits for d in contract(op).profiles]


@pytest.mark.parametrize(("op", "dtype"), KINDS)
def test_emulated_implementations_are_inside_every_profile(op, dtype):
    of = contract(op)
    kinds = {s.name: s.dtype for s in (*of.inputs, *of.outputs)}
    judged = 0
    for name in PROFILES:
        if name.partition("+")[0] not in of.profiles[dtype]:
            continue
        for index in range(CASES):
            case = draw(of, "authority", "native", SHORT[dtype], 3, index)
            call = of.make(case)
            want, variants = of.authority(call, profile(name)), of.variants(call, profile(name))
            if not all(e.finite() for e in want.values()):
                continue
            for results in variants:
                for output, expected in want.items():
                    if output not in results:
                        continue
                    honest = [v[output] for v in variants]
                    must_be = dtype_of(kinds[output], case.torch_dtype)
                    found = expected.problem(results[output], must_be, honest, results)
                    assert found is None, f"{name}, {case}: {found}"
                    judged += 1
    assert judged


@pytest.mark.parametrize("op", OPS)
def test_the_points_that_an_op_is_said_to_have_are_those_that_its_lines_ask_for(op, monkeypatch):
    few = points.asked(contract(op))
    monkeypatch.setattr(points, "CASES", 12)
    assert points.asked(contract(op)) == few


def test_what_is_printed_of_an_op_names_its_own_points_alone():
    printed = "\n".join(describe("mla_attention")["lines"])
    assert "to bf16: operand, weights; one output" in printed
    assert "  +q=bf16       with any of them: may also round to bf16: query\n" in printed
    assert "+decay=bf16" not in printed
    assert "  query         a query of softmax attention times the scale" in printed
    for op in ("latent_cache_write", "lightning_log_decay"):
        assert "arithmetic" not in "\n".join(describe(op)["lines"])
