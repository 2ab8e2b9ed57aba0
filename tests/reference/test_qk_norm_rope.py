"""Laws of qk_norm_rope."""

import pytest
import torch
from drawing import assert_near, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import partial_rope, qk_norm_rope, rms_norm, rope_table


@pytest.mark.statement("QK-1", "QK-2", "QK-3")
@given(seed=st.integers(0, 99), exponent=st.integers(-9, 9))
def test_it_is_the_norm_then_the_rotation_of_each_head_whatever_its_scale(seed, exponent):
    q, k = normal(2, 3, 4, 8, seed=seed), normal(2, 3, 2, 8, seed=seed + 1)
    a, b = normal(8, seed=seed + 2), normal(8, seed=seed + 3)
    cos, sin = rope_table(torch.arange(3).expand(2, 3).double(), rotary_dim=4, theta=1e4)
    got_q, got_k = qk_norm_rope(q * 2.0**exponent, k, a, b, cos, sin, eps=1e-300)
    assert_near(got_q, partial_rope(rms_norm(q, a, eps=1e-300), cos, sin))
    assert_near(got_k, partial_rope(rms_norm(k, b, eps=1e-300), cos, sin))


@pytest.mark.statement("QK-4")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norm_weight_and_rotation_are_rounded_one_after_the_other(dtype):
    q, w = normal(1, 9, 2, 8, dtype=dtype), normal(8, seed=1, dtype=dtype)
    cos, sin = rope_table(torch.arange(9)[None], rotary_dim=4, theta=1e4)
    got = qk_norm_rope(q, q, w, w, cos, sin, eps=1e-6)
    root = (q.float().square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    weighed = w * (q.float() * root).to(dtype)
    c, s = cos.to(dtype)[:, :, None], sin.to(dtype)[:, :, None]
    a, b, rest = weighed.split([2, 2, 4], dim=-1)
    want = torch.cat([a * c - b * s, b * c + a * s, rest], dim=-1)
    assert torch.equal(got[0], want)
    assert torch.equal(got[1], want)
