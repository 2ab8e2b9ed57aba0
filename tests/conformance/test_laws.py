"""Every law rejects a mistake that is its own, accepts what is right, and says when it is idle."""

from __future__ import annotations

import pytest
from judging import hosted, judged, server_here

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
    "bias": "lightning_attention:bias.bf16.B2.T100.H2.K8.V8.state.mild.normal.dense.1",
    "sequences": SHAPE.format("sequences", "dense.cut24.1"),
    "scale": "lightning_attention:scale.f32.B2.T70.H9.K8.V8.mild.normal.dense.1",
    "unread": "mla_decode:unread.f32.B3.H2.L16.R8.P9.G16.M2.normal.ragged.shuffled.dense.1",
    "groups": "gated_group_rms_norm:groups.f32.B2.T5.D96.G8.normal.open.dense.rank3.1",
    "invariance": "moe_route:invariance.f32.T64.E8.G4.S2.C2.normal.varied.dense.1",
    "identities": "moe_route:identities.f32.T9.E8.G4.S4.C2.normal.level.dense.1",
}
# A case in which the law has nothing to compare, and what is said then.
IDLE = {
    "causality": ("B1.T1.H2.K8.V8", "no token comes after another"),
    "packed": ("B2.T5.H2.K8.V8", "no sequences are packed"),
    "permutation": ("B1.T5.H1.K8.V1", "nothing here has a neighbour"),
    "sharding": ("B1.T5.H1.K8.V8", "nothing here can be spread"),
}


@pytest.fixture(scope="module")
def server():
    with server_here() as made:
        yield made


RIGHT = {"lightning_attention": "candidates:honest", "moe_route": "lawbreakers:routes",
    "mla_decode": "lawbreakers:decodes", "gated_group_rms_norm": "lawbreakers:normalises",
}  # fmt: skip
PLAIN = {
    "lightning_attention": SHAPE.replace("f32", "{}").format("authority", "{}", "dense.1"),
    "mla_decode": "mla_decode:authority.{}.B3.H2.L16.R8.P9.G16.M2.normal.ragged.shuffled.dense.1",
    "gated_group_rms_norm": CASES["groups"].replace("groups.f32", "authority.{}"),
    "moe_route": "moe_route:authority.{}.T9.E8.G4.S2.C2.normal.level.dense.1",
}
# What is wrong with these, any call of the same kind shows, if it is asked to the bit.
ANYWHERE = ("authority", "untouched", "exact")


def parsed(text):
    return contract(text.partition(":")[0]).parse(text)


@pytest.mark.parametrize("name", CASES)
def test_a_law_accepts_what_is_right(server, name):
    case = parsed(CASES[name])
    with hosted(server, RIGHT[case.op]) as host:
        (found,) = judged(host, case)
    assert (found.status, found.findings) == ("PASS", [])


@pytest.mark.parametrize("name", CASES)
def test_a_law_rejects_a_mistake_that_agrees_with_the_authority_elsewhere(server, name):
    case = parsed(CASES[name])
    with hosted(server, f"lawbreakers:{name}") as host:
        (found,) = judged(host, case)
        assert found.status == ("REJECTED" if name == "untouched" else "FAIL")  # edits an input
        assert name in {f.law for f in found.findings}
    if name not in ANYWHERE:
        with hosted(server, f"lawbreakers:{name}") as host:
            (elsewhere,) = judged(host, parsed(PLAIN[case.op].format(case.dtype)))
            assert elsewhere.status == "PASS"


@pytest.mark.parametrize("name", IDLE)
def test_a_law_that_compares_nothing_does_not_pass(server, name):
    shape, said = IDLE[name]
    case = f"lightning_attention:{name}.f32.{shape}.mild.normal.dense.1"
    with hosted(server, "candidates:honest") as host:
        (found,) = judged(host, parsed(case))
    assert (found.status, found.reason) == ("VOID", f"nothing to check: {said}")


@pytest.mark.parametrize(("name", "status"), [("of_itself", "PASS"), ("after_another", "FAIL")])
def test_what_another_dtype_does_wrong_without_other_calls_is_its_own(server, name, status):
    with hosted(server, f"dtypes:{name}") as host:
        (found,) = judged(host, parsed(CASES["shapes"]))
    assert found.status == status


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


def test_a_single_row_may_be_contiguous_where_those_beside_each_other_are_not(server):
    one, two = (
        "mla_decode:permutation.f32.B2.H1.L16.R8.P90.G32.M40.normal.ragged.shared.fused.1a74",
        "mla_decode:permutation.f32.B2.H2.L16.R8.P90.G32.M40.normal.ragged.shared.fused.1a74",
    )
    with hosted(server, "honest:sums_what_is_not_contiguous_backwards_in_decode") as host:
        assert [found.findings for found in judged(host, parsed(one), parsed(two))] == [[], []]
