"""Laws of moe_logits."""

import pytest
import torch
from drawing import FLOATS, normal

from lingspec.reference import ContractError, moe_logits


@pytest.mark.statement("ROUTE-1")
@pytest.mark.parametrize("dtype", FLOATS)
def test_products_and_sums_are_not_rounded_to_the_inputs_dtype(dtype):
    x, w = normal(5, 64, dtype=dtype), normal(7, 64, seed=1, dtype=dtype)
    got = moe_logits(x, w)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert got.dtype == wide
    exact = (x.double()[:, None] * w.double()).sum(-1)
    room = 64 * torch.finfo(wide).eps * (x.double().abs() @ w.double().abs().mT)
    assert bool(((got.double() - exact).abs() <= room).all())


def test_no_tokens_give_no_logits():
    assert moe_logits(torch.zeros(0, 4), torch.zeros(3, 4)).shape == (0, 3)


@pytest.mark.statement("ROUTE-12")
def test_another_width_or_dtype_of_the_weight_is_refused():
    with pytest.raises(ContractError, match=r"weight has shape \(3, 5\), but must have \(E, 4\)"):
        moe_logits(torch.zeros(2, 4), torch.zeros(3, 5))
    with pytest.raises(ContractError, match="weight has dtype"):
        moe_logits(torch.zeros(2, 4), torch.zeros(3, 4).half())
