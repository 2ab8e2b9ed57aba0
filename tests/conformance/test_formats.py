"""Formats round as torch does, and no further than they say; profiles have the names they print."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lingspec.conformance.accuracy.formats import BF16, FORMATS, FP16, FP32, TF32, of_dtype
from lingspec.conformance.accuracy.power import lower
from lingspec.conformance.accuracy.profiles import (
    DEFAULTS,
    MODIFIERS,
    NAMES,
    UnknownProfileError,
    profile,
)

FP8 = lower(profile("bf16-tc")).points["q"]
TORCH = {
    "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64,
    "fp8": torch.float8_e4m3fn,
}  # fmt: skip
EVERY = {**FORMATS, "fp8": FP8}


def around(form) -> torch.Tensor:
    """Powers of two of the format with neighbours and midpoints, zeros, and the extremes."""
    low = max(math.floor(math.log2(form.tiny)) - 3, -1000)
    powers = 2.0 ** torch.arange(low, math.floor(math.log2(form.largest)), dtype=torch.float64)
    steps = torch.tensor([1, 1 + form.u, 1 + 2 * form.u, 1 + 3 * form.u, 2 - form.u], dtype=float)
    x = torch.cat(
        [(powers[:, None] * steps).flatten(), torch.tensor([0.0, form.largest], dtype=float)]
    )
    return torch.cat([x, -x])


def drawn(form) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(20_000, generator=g, dtype=torch.float64)
    return (x * 2.0 ** torch.randint(-20, 8, x.shape, generator=g)).clamp(
        -form.largest, form.largest
    )


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("values", [around, drawn])
def test_a_cast_is_torch_s_cast(name, values):
    x = values(EVERY[name])
    assert torch.equal(EVERY[name].cast(x), x.to(TORCH[name]).to(torch.float64))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("values", [around, drawn])
def test_a_cast_moves_no_value_further_than_the_format_says(name, values):
    form, x = EVERY[name], values(EVERY[name])
    assert bool(((form.cast(x) - x).abs() <= form.u * x.abs() + form.tiny).all())


@pytest.mark.parametrize("name", [n for n in EVERY if n != "fp64"])
def test_the_unit_roundoff_is_reached(name):
    form = EVERY[name]
    x = torch.linspace(1, 2, 2**14 + 1, dtype=torch.float64)
    x = torch.cat([x, 1 + form.u * torch.tensor([0.999, 1.001, 2.999], dtype=torch.float64)])
    assert float(((form.cast(x) - x).abs() / x).max()) > 0.9 * form.u


@pytest.mark.parametrize("name", EVERY)
def test_a_cast_keeps_the_dtype_and_is_done_once(name):
    x = drawn(EVERY[name]).float()
    once = EVERY[name].cast(x)
    assert once.dtype == x.dtype
    assert torch.equal(EVERY[name].cast(once), once)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_tf32_drops_the_last_thirteen_bits_of_float32(x):
    bits = torch.tensor([x], dtype=torch.float32).view(torch.int32)
    cast = TF32.cast(torch.tensor([x], dtype=torch.float32)).view(torch.int32)
    assert int(cast) == int(bits) >> 13 << 13


def test_the_drift_of_tf32_is_the_mean_loss_of_truncation():
    g = torch.Generator().manual_seed(0)
    x = 2.0 ** torch.rand(200_000, generator=g, dtype=torch.float64)
    loss = float(((x - TF32.cast(x)) / x).mean())
    assert loss == pytest.approx(TF32.drift, rel=0.01)
    for form in (BF16, FP16, FP32):
        assert form.drift == 0
        assert abs(float(((x - form.cast(x)) / x).mean())) < 0.02 * form.u


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_format_of_a_dtype_has_half_its_spacing(dtype):
    assert of_dtype(dtype).u == torch.finfo(dtype).eps / 2


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_is_called_what_it_was_asked_for(name):
    assert profile(name).name == name
    assert profile(name).arithmetic.name in profile(name).describe()
    for modifier, (points, form) in MODIFIERS.items():
        changed = profile(f"{name}+{modifier}")
        assert changed.name == f"{name}+{modifier}"
        assert changed.points == {**profile(name).points, **dict.fromkeys(points, form)}


def test_modifiers_of_one_profile_leave_the_others_as_they_are():
    before = dict(profile("fp32").points)
    assert profile("fp32+state=bf16+decay=bf16").points != before
    assert profile("fp32").points == before


@pytest.mark.parametrize(
    "name", ["", "bf16", "FP32", "fp32+", "fp32+state", "+state=bf16", "tf32+q"]
)
def test_an_unknown_profile_is_refused_with_the_names_of_all(name):
    with pytest.raises(UnknownProfileError, match=r"there are .*state=bf16"):
        profile(name)


def test_every_dtype_has_a_usual_profile_that_rounds_no_coarser_than_the_dtype():
    for dtype, name in DEFAULTS.items():
        own = of_dtype(getattr(torch, dtype)).u
        used = profile(name)
        assert max([used.arithmetic.u, *(f.u for f in used.points.values())]) <= max(own, 2.0**-24)


@pytest.mark.parametrize("name", NAMES)
def test_the_next_lower_precision_rounds_coarser_somewhere_and_finer_nowhere(name):
    of, less = profile(name), lower(profile(name))
    if less is None:
        assert name.endswith("eager")
        return
    assert less.arithmetic.u >= of.arithmetic.u
    finer = [p for p, f in of.points.items() if p in less.points and less.points[p].u < f.u]
    coarser = [
        p
        for p, f in less.points.items()
        if f.u > of.arithmetic.u and (p not in of.points or f.u > of.points[p].u)
    ]
    assert not finer
    assert coarser or less.arithmetic.u > of.arithmetic.u
