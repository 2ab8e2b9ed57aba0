"""Codes of 8-bit floats: which are right for a scale, and which are not."""

from __future__ import annotations

import pytest
import torch

from lingspec.conformance.accuracy.codes import GRID, WIDER, Coded, WithNaN
from lingspec.conformance.accuracy.formats import FP32
from lingspec.conformance.accuracy.limits import limits
from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.accuracy.running import running
from lingspec.conformance.runner.arena import as_bytes, identical
from lingspec.conformance.runner.protocol import plain, restored
from lingspec.reference import fp8_quantize

E4M3 = torch.float8_e4m3fn


def coded(x):
    q, scale = fp8_quantize(x)
    place = torch.arange(len(x))[:, None].expand(x.shape)
    return Coded("q", q.double(), x.double(), place, "scale"), q, scale


def test_the_grid_holds_every_finite_number_of_the_format():
    assert (len(GRID), float(GRID[1]), float(GRID[-1])) == (127, 2.0**-9, 448.0)


@pytest.mark.parametrize("off", [0.0, 1.0, -1.0])
def test_codes_of_a_scale_that_errs_are_right_and_their_neighbours_are_not(off):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(16, 200, generator=g)
    want, _, scale = coded(x)
    scale = scale * (1 + off * 2.0**-22)
    q = (x * scale.reciprocal()).clamp(-448, 448).to(E4M3)
    given = {"q": q, "scale": scale}
    assert want.problem(q, E4M3, (), given) is None
    for step in (1, -1):
        place = (0, int(q[0].float().abs().argmin()))
        size = q.view(torch.uint8)[place] & 0x7F
        if 0 < int(size) + step < 0x7F and int(size):
            other = q.clone()
            other.view(torch.uint8)[place] += step
            assert want.problem(other, E4M3, (), given | {"q": other}) is not None


def test_a_tie_goes_to_the_even_code_where_the_scale_is_a_power_of_two():
    x = torch.tensor([[448.0, 17.0, 19.0, -17.0]])  # between 16 and 18, 18 and 20
    want, q, scale = coded(x)
    assert float(scale) == 1.0
    assert q.float().tolist() == [[448.0, 16.0, 20.0, -16.0]]
    assert want.problem(q, E4M3, (), {"scale": scale}) is None
    away = torch.tensor([[448.0, 18.0, 20.0, -18.0]]).to(E4M3)
    assert want.problem(away, E4M3, (), {"scale": scale}) is not None


def test_either_neighbour_of_a_tie_is_right_where_the_quotient_may_err():
    x = torch.tensor([[448.0 * 1.5, 17.0 * 1.5]])
    want, _, scale = coded(x)
    for code in (16.0, 18.0):
        q = torch.tensor([[448.0, code]]).to(E4M3)
        assert want.problem(q, E4M3, (), {"scale": scale}) is None
    assert 2.0**-22 < WIDER < 2.0**-21


@pytest.mark.parametrize("codes", [[448.0, -1.0], [448.0, float("nan")], [-448.0, 1.0]])
def test_a_code_of_another_sign_and_nan_are_refused(codes):
    x = torch.tensor([[448.0, 1.0]])
    want, _, scale = coded(x)
    assert want.problem(torch.tensor([codes]).to(E4M3), E4M3, (), {"scale": scale}) is not None


def test_nan_is_asked_for_where_it_must_be_and_nowhere_else():
    used = profile("fp32")
    y = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)
    inside = limits("x", [running(y, used)], used, FP32, coherent=True)
    want = WithNaN(inside, torch.tensor([False, False, True]))
    nan = float("nan")
    assert want.problem(torch.tensor([1.0, 2.0, nan]), torch.float32) is None
    for wrong in ([1.0, 2.0, 480.0], [1.0, nan, nan], [1.0, 2.1, nan]):
        assert want.problem(torch.tensor(wrong), torch.float32) is not None


def test_bytes_of_a_single_element_do_not_ask_for_its_strides():
    x = torch.ones(1, 4)[:, :1].mT
    odd = torch.as_strided(x, (1, 1), (7, 7))
    assert len(as_bytes(odd)) == 4
    assert identical(odd, torch.ones(1, 1))


def test_8_bit_floats_compare_bit_by_bit():
    x = torch.tensor([1.0, float("nan")]).to(E4M3)
    assert identical(x, x.clone())
    assert not identical(x, torch.tensor([float("nan"), 1.0]).to(E4M3))
    assert not identical(x, x[:1])


def test_arguments_go_to_the_candidate_and_come_back_as_they_were():
    given = {"dtype": torch.bfloat16, "block": (128, 128), "eps": 1e-6, "scaling": {"factor": 2}}
    assert restored(plain(given)) == given
    with pytest.raises(ValueError, match="no dtype"):
        restored({"torch.dtype": "nothing"})
