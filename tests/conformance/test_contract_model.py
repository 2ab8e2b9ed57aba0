"""The contract of model: its authority is the reference's model, and it knows what is undecided."""

from __future__ import annotations

import pytest
import torch

from lingspec.conformance.accuracy.limits import ANYTHING
from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.adapters.reference import model
from lingspec.conformance.contracts import contract
from lingspec.conformance.contracts.model import ALL_CONFIGS, run
from lingspec.conformance.runner.worker import nested

OF = contract("model")


def called(call):
    """What the reference's `LingModel` returns, and what it leaves in the caches."""
    given = nested(call.tensors | call.params, OF.nested)
    cache = given.get("cache")
    logits = model(**given)
    kept = [] if cache is None else [x for layer in cache for x in vars(layer).values()]
    return [logits, *kept]


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("config", ALL_CONFIGS)
def test_the_authority_s_lines_are_those_of_the_reference_to_the_bit(config, dtype):
    for case in (f"B2.T9.S0.{config}.dense.1", f"B2.T5.S5.cache.{config}.dense.2"):
        call = OF.make(OF.parse(f"model:authority.{dtype}.{case}"))
        ours = run(**call.tensors, **call.params)
        for a, b in zip(ours, called(call), strict=True):
            assert torch.equal(a, b)


def test_what_later_tokens_see_of_an_undecided_one_is_undecided():
    call = OF.make(OF.parse("model:authority.f64.B2.T9.S5.cache.alone.dense.3"))
    seen = {}
    run(tap=seen.__setitem__, **call.tensors, **call.params)
    layer, row, token = 1, 1, 4
    name = f"weights.model.layers.{layer}.mlp.gate.expert_bias"
    biased = torch.sigmoid(seen[f"layers.{layer}.router_logits"][row, token]) + call.tensors[name]
    first, second = biased.topk(2).indices.tolist()
    bias = call.tensors[name].clone()
    bias[second] += biased[first] - biased[second]  # a tie for this token
    found = OF.authority(call.with_tensors(**{name: bias}), profile("fp64"))
    free = {n: limits.bound >= ANYTHING for n, limits in found.items()}
    assert free["logits"][row, token:].all()
    assert not free["logits"][row, :token].any()
    assert not free["logits"][1 - row].any()
    assert not free["cache.0.state"].any()  # before that layer
    assert not free["cache.1.rows"].any()
    assert free["cache.2.state"][row].all()
    assert not free["cache.2.state"][1 - row].any()
    assert free["cache.3.rows"][row, 5 + token :].all()
    assert not free["cache.3.rows"][row, : 5 + token].any()
