"""Laws of fp8_dequantize."""

import pytest
import torch
from drawing import FLOATS, normal

from lingspec.reference import ContractError, fp8_dequantize, fp8_quantize


@pytest.mark.statement("FP8-6")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("block", [None, (128, 128)])
def test_every_element_is_multiplied_by_the_scale_of_its_row_or_block(dtype, block):
    q, scale = fp8_quantize(normal(130, 5).float(), block=block)
    x = fp8_dequantize(q, scale, block=block, dtype=dtype)
    assert x.dtype == dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for i in (0, 127, 128, 129):
        of = scale[i, 0] if block is None else scale[i // 128, 0]
        assert torch.equal(x[i], (q[i].to(wide) * of.to(wide)).to(dtype))


@pytest.mark.statement("FP8-2", "FP8-6")
def test_blocks_of_a_matrix_of_many_have_their_own_scales():
    q = fp8_quantize(normal(130, 257).float(), block=(128, 128))[0]
    scale = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    x = fp8_dequantize(q, scale, block=(128, 128), dtype=torch.float32)
    for i in range(130):
        for j in (0, 127, 128, 255, 256):
            assert x[i, j] == q[i, j].float() * scale[i // 128, j // 128]


@pytest.mark.statement("FP8-7")
def test_all_256_numbers_come_back():
    q = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)[None]
    x = fp8_dequantize(q, torch.full((1, 1), 2.0), dtype=torch.float32)
    assert torch.equal(x.nan_to_num(1e9), (q.float() * 2).nan_to_num(1e9))


@pytest.mark.statement("FP8-8")
def test_a_wrong_scale_is_named():
    q = torch.zeros(130, 5).to(torch.float8_e4m3fn)
    with pytest.raises(ContractError, match=r"scale has shape \(130, 1\), but must have \(2, 1\)"):
        fp8_dequantize(q, torch.ones(130, 1), block=(128, 128), dtype=torch.float32)
    with pytest.raises(ContractError, match=r"q has dtype torch\.float32"):
        fp8_dequantize(q.float(), torch.ones(130, 1), dtype=torch.float32)
