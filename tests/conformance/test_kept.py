"""The next call comes in the tensor objects of the last one, written to in place."""

from __future__ import annotations

import pytest
import torch
from judging import ATTENTION, hosted, judged, server_here

from lingspec.conformance.laws.calls import lengths_of, other_ends

PACKED = "lightning_attention:determinism.f32.H2.K8.V8.{lengths}.slopes.normal.dense.1"


@pytest.fixture(scope="module")
def server():
    with server_here() as made:
        yield made


def found(server, name, lengths):
    with hosted(server, f"kept_candidates:{name}") as host:
        (verdict,) = judged(host, ATTENTION.parse(PACKED.format(lengths=lengths)))
    return verdict.status, [f.text for f in verdict.findings]


@pytest.mark.parametrize("lengths", ["n4-3", "n4-4", "n0-1-2"])
def test_what_is_kept_with_an_object_alone_is_stale(server, lengths):
    status, texts = found(server, "keeps_by_object", lengths)
    assert status == "FAIL"
    assert "the same tokens in sequences of other lengths" in texts[0]


@pytest.mark.parametrize("lengths", ["n4-3", "n4-4", "n0-1-2", "n5"])
def test_what_is_kept_with_an_object_and_its_version_is_not(server, lengths):
    assert found(server, "keeps_by_object_and_version", lengths) == ("PASS", [])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("makes_an_input_of_another_shape", "the call made v another tensor"),
        ("replaces_what_an_input_holds", "the call made k another tensor"),
    ],
)
def test_an_input_is_the_tensor_that_it_was(server, name, said):
    status, texts = found(server, name, "n4-3")
    assert status == "FAIL"
    assert said in texts[0]


@pytest.mark.parametrize(
    ("lengths", "others"),
    [("n4-3", [3, 4]), ("n4-4", [3, 5]), ("n2-0-2", [1, 0, 3]), ("n7", None), ("n0-0", None)],
)
def test_sequences_end_elsewhere_and_hold_as_many_tokens(lengths, others):
    call = ATTENTION.make(ATTENTION.parse(PACKED.format(lengths=lengths)))
    made = other_ends(ATTENTION, call)
    assert (made and lengths_of(ATTENTION, made)) == others
    assert made is None or all(
        torch.equal(x, made.tensors[n]) for n, x in call.tensors.items() if n != "cu_seqlens"
    )
