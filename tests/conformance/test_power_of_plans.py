"""A right implementation can be certified: the cases of a run reject what is wrong on purpose.

No candidate takes part: what a case proves follows from its limits.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from lingspec.conformance.accuracy.power import REJECTIONS, unproven
from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.plan import plan
from lingspec.conformance.proof import proof
from lingspec.conformance.run import laws_for

COMPOSED = ("lightning_layer", "mla_layer", "moe_block", "decoder_layer", "mtp_layer", "model")
NAMES = {
    "f32": ("float32", "fp32", "tf32"), "bf16": ("bfloat16", "bf16-tc", "fp32"),
    "f16": ("float16", "fp16-tc", "fp32"),
}  # fmt: skip
ASKED = [
    (op, dtype, name)
    for op in OPS
    if op not in COMPOSED and not contract(op).algebra.bits
    for dtype, (long, *names) in NAMES.items()
    for name in names
    if name in contract(op).profiles.get(long, ())
]


def proved(op, dtype, name, cost, run, least):
    """What the cases of a run leave unproven: those of authority, then of other laws, in turn."""
    of, allowed = contract(op), profile(name)
    kills, left = Counter(), None
    laws = [law for law in laws_for(of) if law not in ("gradients", "sequences")]
    for case in plan(of, tuple(sorted(laws, key=lambda x: x != "authority")), dtype, cost, run, 0):
        if case.law != "authority":
            left = unproven(dict(kills), least)
            if not left:
                return []
        call = of.make(case)
        authority = of.authority(call, allowed)
        if all(want.finite() for want in authority.values()):
            variants = partial(of.variants, call, allowed)
            killed, asked = proof(of, call, allowed, case.torch_dtype, authority, variants)
            kills.update(dict.fromkeys(asked, 0) if case.law == "authority" else {})
            kills.update(killed)
    return left


@pytest.mark.parametrize("cost", ["native", "interpreted"])
@pytest.mark.parametrize(("op", "dtype", "name"), ASKED)
def test_a_short_run_of_an_op_proves_its_power_in_every_usual_profile(op, dtype, name, cost):
    assert proved(op, dtype, name, cost, "smoke", 1) == []


@pytest.mark.parametrize("cost", ["native", "interpreted"])
@pytest.mark.parametrize("op", ["moe_experts", "gated_group_rms_norm"])
def test_one_percent_is_seen_where_many_roundings_are_permitted(op, cost):
    assert proved(op, "bf16", "bf16-tc", cost, "ci", REJECTIONS) == []
