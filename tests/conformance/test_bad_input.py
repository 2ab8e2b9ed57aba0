"""What breaks a contract is refused by name: by the reference, by the kernels, by `checked`."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch

from lingspec import reference
from lingspec.conformance import emulator
from lingspec.conformance.bad_input import faults
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.plan import draw
from lingspec.conformance.runner.arena import identical
from lingspec.reference import ContractError, LingConfig, LingModel, layers
from lingspec.reference.cache import HybridCache, LatentCache, LightningCache

with emulator.emulated():  # a kernel is interpreted if it was decorated here
    from lingspec import kernels
    from lingspec.kernels import checked

SEEDS = range(1, 25)
# What the kernels' plain entry points look at, and what only `checked` does.
SEEN = {"shape", "dtype", "device"}


def calls(op, dtype):
    """A call with, and one without, each optional argument; both with something in them."""
    of, found = contract(op), {}
    for seed in SEEDS:
        law = "handover" if of.nested and seed % 2 and "handover" in of.laws else "authority"
        call = of.make(draw(of, law, "interpreted", dtype, seed, 3))
        if all(x.numel() for x in call.tensors.values()):
            found.setdefault(tuple(s.name for s in of.inputs if s.name in call.tensors), call)
    assert found, "no call holds anything"
    return list(found.values())


def refused(function, fault):
    """The error, whose message must begin with the argument's name; nothing is written."""
    call = copy.deepcopy(fault.call)
    blamed = fault.blamed | {name.partition(".")[0] for name in fault.blamed}  # cache.0.state
    with pytest.raises(ValueError, match=f"^({'|'.join(blamed)})[ \\[]") as error:
        function(**call.tensors, **call.params)
    assert ", but must have " in str(error.value), fault
    for name, x in call.tensors.items():
        before = fault.call.tensors[name]
        assert x.is_meta or identical(x, before), f"{fault}: {name}"


@pytest.mark.parametrize("op", [op for op in OPS if not contract(op).nested])
def test_the_reference_refuses_every_fault_by_the_name_of_the_argument(op):
    seen = set()
    for call in calls(op, "f32"):
        for fault in faults(contract(op), call):
            refused(getattr(reference, op), fault)
            seen.add((fault.argument, fault.kind))
    named = {s.name for s in contract(op).inputs}
    assert {argument for argument, _ in seen} == named
    told = {s.name for s in contract(op).inputs if s.means}
    assert {argument for argument, kind in seen if kind == "value"} == told


def part(tensors, name):
    """What a layer keeps, if the call has it."""
    kinds = {"state": LightningCache, "rows": LatentCache}
    found = [of(tensors[f"{name}.{n}"]) for n, of in kinds.items() if f"{name}.{n}" in tensors]
    return found[0] if found else None


def weights_in(tensors):
    return {n.removeprefix("weights."): x for n, x in tensors.items() if n[:8] == "weights."}


def layer_of(op):
    """A composite of the reference, called with the tensors of a contract."""

    def run(config, layer, positions, **given):
        inputs = [given[n] for n in ("x", "embedded") if n in given]
        getattr(layers, op)(
            *inputs, weights_in(given), LingConfig.from_dict(config), layer=layer,
            positions=positions, cache=part(given, "cache"),
        )  # fmt: skip

    return run


def model(config, input_ids, positions, **given):
    """The model of the reference, called so; its cache has a list of layers."""
    made = LingModel(LingConfig.from_dict(config), weights_in(given))
    held = [part(given, f"cache.{n}") for n in range(made.config.num_hidden_layers)]
    if held[0] is None:
        made(input_ids, positions)
        return
    shapes = [(c.rows if isinstance(c, LatentCache) else c.state).shape for c in held]
    B = Counter(shape[0] for shape in shapes if shape).most_common(1)[0][0]
    S = next((shape[1] for shape in shapes if len(shape) == 3 and shape[0] == B), 0)
    valid, due = torch.ones(B, S, dtype=torch.bool), torch.full((B,), S)
    cache = HybridCache(made.config, made.weights["model.norm.weight"].dtype, held, valid, due)
    try:
        made(input_ids, positions, cache=cache)
    except ContractError as error:
        told = str(error)
        for name in (n for n in given if n.startswith("cache.")):
            told = told.replace(f"cache.layers[{name.split('.')[1]}] ", f"{name} ")
        raise ContractError(told) from None


@pytest.mark.parametrize("op", [op for op in OPS if contract(op).nested])
def test_a_layer_of_the_reference_refuses_every_fault_by_the_name_of_the_argument(op):
    run, seen, given = model if op == "model" else layer_of(op), set(), set()
    for call in calls(op, "f32"):
        given |= call.tensors.keys()
        run(**copy.deepcopy(call).tensors, **call.params)
        for fault in faults(contract(op), call):
            refused(run, fault)
            seen.add((fault.argument, fault.kind))
    named = {s.name for s in contract(op).inputs}
    # of a model, which layer has which cache depends on its depth
    assert {argument for argument, _ in seen} == (named & given if op == "model" else named)
    told = {s.name for s in contract(op).inputs if s.means}
    assert {argument for argument, kind in seen if kind == "value"} == told


@pytest.mark.parametrize("op", [op for op in OPS if hasattr(kernels, op)])
def test_a_kernel_refuses_shapes_dtypes_and_devices_and_checked_values_too(op):
    for call in calls(op, "bf16" if "bfloat16" in contract(op).profiles else "f32"):
        for fault in faults(contract(op), call):
            if fault.kind in SEEN:
                refused(getattr(kernels, op), fault)
            refused(getattr(checked, op), fault)
