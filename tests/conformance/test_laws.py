"""Every law rejects a mistake that is its own, accepts what is right, and says when it is idle."""

from __future__ import annotations

import pytest
from judging import ATTENTION, hosted, judged, server_here

from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.laws import LAWS, law
from lingspec.conformance.run import laws_for

SHAPE = "lightning_attention:{}.f32.B2.T5.H2.K8.V8.state.mild.normal.{}"
CASES = {name: SHAPE.format(name, "dense.1") for name in LAWS} | {
    "causality": SHAPE.format("causality", "dense.cut2.1"),
    "handover": SHAPE.format("handover", "dense.cut2.1"),
    "packed": "lightning_attention:packed.f32.H2.K8.V8.n3-0-4.mild.normal.dense.1",
    "strides": SHAPE.format("strides", "stepped.3"),
    "exact": "lightning_attention:exact.f32.B2.T5.H2.K8.V8.state.exactly.integers.dense.1",
}
# A case in which the law has nothing to compare, and what is said then.
IDLE = {
    "causality": ("B1.T1.H2", "no token comes after another"),
    "packed": ("B2.T5.H2", "no sequences are packed"),
    "permutation": ("B1.T5.H1", "one head of one batch row has no neighbours"),
    "sharding": ("B1.T5.H1", "1 head cannot be spread"),
}


@pytest.fixture(scope="module")
def server():
    with server_here() as made:
        yield made


@pytest.fixture(scope="module")
def honest(server):
    with hosted(server, "candidates:honest") as host:
        yield host


@pytest.mark.parametrize("name", LAWS)
def test_a_law_accepts_what_is_right(honest, name):
    (found,) = judged(honest, ATTENTION.parse(CASES[name]))
    assert (found.status, found.findings) == ("PASS", [])


@pytest.mark.parametrize("name", LAWS)
def test_a_law_rejects_a_mistake_that_agrees_with_the_authority_elsewhere(server, name):
    with hosted(server, f"lawbreakers:{name}") as host:
        (found,) = judged(host, ATTENTION.parse(CASES[name]))
        assert found.status == ("REJECTED" if name == "untouched" else "FAIL")  # edits an input
        assert name in {f.law for f in found.findings}
    if name not in ("authority", "untouched", "exact"):
        with hosted(server, f"lawbreakers:{name}") as host:
            (elsewhere,) = judged(host, ATTENTION.parse(CASES["authority"]))
            assert elsewhere.status == "PASS"


@pytest.mark.parametrize("name", IDLE)
def test_a_law_that_compares_nothing_does_not_pass(honest, name):
    shape, said = IDLE[name]
    case = f"lightning_attention:{name}.f32.{shape}.K8.V8.mild.normal.dense.1"
    (found,) = judged(honest, ATTENTION.parse(case))
    assert (found.status, found.reason) == ("VOID", f"nothing to check: {said}")


@pytest.mark.parametrize("op", OPS)
def test_an_op_is_held_to_the_laws_whose_algebra_it_declares_and_to_no_others(op):
    of = contract(op)
    assert set(laws_for(of)) == set(of.laws)
    assert {"authority", "determinism", "untouched"} <= set(of.laws)


@pytest.mark.parametrize("name", LAWS)
def test_a_law_s_sentence_is_a_phrase_for_a_report(name):
    sentence = law(name).sentence
    assert sentence[0].islower()
    assert not sentence.endswith(".")
