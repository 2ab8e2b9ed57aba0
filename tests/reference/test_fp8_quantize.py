"""Laws of fp8_quantize."""

import pytest
import torch
from drawing import FLOATS, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, fp8_dequantize, fp8_quantize

BLOCK = (128, 128)


@pytest.mark.statement("FP8-1", "FP8-4")
@given(M=st.integers(0, 5), N=st.integers(0, 9), exponent=st.integers(-30, 30))
def test_the_largest_of_each_row_becomes_448_and_all_are_within_half_a_step(M, N, exponent):
    x = (normal(M, N, seed=M + N) * 2.0**exponent).float()
    q, scale = fp8_quantize(x)
    assert scale.shape == (M, 1)
    if M and N:
        assert torch.equal(q.float().abs().amax(1), torch.full((M,), 448.0))
    back = fp8_dequantize(q, scale, dtype=torch.float32)
    step = torch.maximum(x.abs() * 2**-4, scale * 2**-10)  # half a step of 3 bits, or the smallest
    assert bool(((back - x).abs() <= step * 1.0001).all())


@pytest.mark.statement("FP8-2")
@pytest.mark.parametrize("shape", [(128, 128), (130, 257), (1, 1), (256, 128)])
def test_each_block_has_a_scale_of_its_own(shape):
    x = normal(*shape).float()
    q, scale = fp8_quantize(x, block=BLOCK)
    assert scale.shape == (-(-shape[0] // 128), -(-shape[1] // 128))
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            part = (slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128))
            assert scale[i, j] == x[part].abs().max() / 448
    assert q.dtype == torch.float8_e4m3fn


@pytest.mark.statement("FP8-3")
def test_rows_of_zeros_have_a_scale_of_1():
    q, scale = fp8_quantize(torch.zeros(2, 3))
    assert scale.tolist() == [[1.0], [1.0]]
    assert q.float().abs().sum() == 0


@pytest.mark.statement("FP8-5")
@pytest.mark.parametrize("dtype", FLOATS)
def test_all_float_dtypes_are_taken(dtype):
    assert fp8_quantize(normal(2, 3, dtype=dtype))[1].dtype == torch.float32


@pytest.mark.statement("FP8-8")
def test_another_block_is_refused():
    with pytest.raises(ContractError, match=r"block has value \(64, 64\)"):
        fp8_quantize(torch.zeros(2, 2), block=(64, 64))


@pytest.mark.statement("FP8-4")
def test_ties_go_to_even():
    x = torch.tensor([[448.0, 17.0, 19.0, -17.0, -19.0, 17.01]])  # neighbours are 2 apart
    q, scale = fp8_quantize(x)
    assert scale.item() == 1
    assert q.float().tolist() == [[448.0, 16.0, 20.0, -16.0, -20.0, 18.0]]
