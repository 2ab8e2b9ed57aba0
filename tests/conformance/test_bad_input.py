"""What breaks a contract is refused by name: by the reference, by the kernels, by `checked`."""

from __future__ import annotations

import copy

import pytest

from lingspec import reference
from lingspec.conformance import emulator
from lingspec.conformance.bad_input import faults
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.plan import draw
from lingspec.conformance.runner.arena import identical

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
        call = of.make(draw(of, "authority", "interpreted", dtype, seed, 3))
        if all(x.numel() for x in call.tensors.values()):
            found.setdefault(tuple(call.tensors), call)
    assert found, "no call holds anything"
    return list(found.values())


def refused(function, fault):
    """The error, whose message must begin with the argument's name; nothing is written."""
    call = copy.deepcopy(fault.call)
    with pytest.raises(ValueError, match=f"^({'|'.join(fault.blamed)})[ \\[]") as error:
        function(**call.tensors, **call.params)
    assert ", but must have " in str(error.value), fault
    for name, x in call.tensors.items():
        before = fault.call.tensors[name]
        assert x.is_meta or identical(x, before), f"{fault}: {name}"


@pytest.mark.parametrize("op", [op for op in OPS if hasattr(reference, op)])
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


@pytest.mark.parametrize("op", [op for op in OPS if hasattr(kernels, op)])
def test_a_kernel_refuses_shapes_dtypes_and_devices_and_checked_values_too(op):
    for call in calls(op, "bf16" if "bfloat16" in contract(op).profiles else "f32"):
        for fault in faults(contract(op), call):
            if fault.kind in SEEN:
                refused(getattr(kernels, op), fault)
            refused(getattr(checked, op), fault)
