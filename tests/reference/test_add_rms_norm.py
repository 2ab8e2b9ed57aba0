"""Laws of add_rms_norm."""

import pytest
import torch
from drawing import FLOATS, normal

from lingspec.reference import ContractError, add_rms_norm, rms_norm


@pytest.mark.statement("NORM-6", "NORM-7")
@pytest.mark.parametrize("dtype", FLOATS)
def test_it_is_the_norm_of_the_rounded_sum(dtype):
    x, residual, w = (normal(*s, seed=n, dtype=dtype) for n, s in enumerate([(4, 9), (4, 9), (9,)]))
    before = residual.clone()
    y, total = add_rms_norm(x, residual, w, eps=1e-6)
    assert torch.equal(total, x + residual)
    assert torch.equal(y, rms_norm(total, w, eps=1e-6))
    assert torch.equal(residual, before)


@pytest.mark.statement("NORM-8")
def test_another_shape_or_dtype_of_the_residual_is_refused():
    x, w = torch.zeros(2, 3), torch.ones(3)
    for residual, text in (
        (torch.zeros(3, 3), r"residual has shape \(3, 3\), but must have \(2, 3\), as x"),
        (torch.zeros(2, 3).double(), "residual has dtype torch.float64"),
    ):
        with pytest.raises(ContractError, match=text):
            add_rms_norm(x, residual, w, eps=1e-6)
