"""Laws of moe_experts."""

import pytest
import torch
from drawing import FLOATS, assert_near, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, moe_experts, swiglu


def draw(T=5, D=4, E=6, hidden=3, k=2, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return {
        "x": normal(T, D, seed=seed, dtype=dtype),
        "gate_up": normal(E, 2 * hidden, D, seed=seed + 1, dtype=dtype),
        "down": normal(E, D, hidden, seed=seed + 2, dtype=dtype),
        "experts": torch.stack([torch.randperm(E, generator=g)[:k] for _ in range(T)])
        if T
        else torch.zeros(0, k, dtype=torch.int64),
        "weights": normal(T, k, seed=seed + 3).to(wide),
    }


@pytest.mark.statement("MOE-1", "MOE-2")
@given(seed=st.integers(0, 99), T=st.integers(0, 5))
def test_it_is_the_weighted_sum_of_single_experts(seed, T):
    call = draw(T=T, seed=seed)
    want = torch.zeros_like(call["x"])
    for t in range(T):
        for e, w in zip(call["experts"][t].tolist(), call["weights"][t], strict=True):
            want[t] += w * (call["down"][e] @ swiglu(call["gate_up"][e] @ call["x"][t]))
    assert_near(moe_experts(**call), want)


@pytest.mark.statement("MOE-5")
@given(seed=st.integers(0, 99), cut=st.integers(0, 6))
def test_the_ranks_of_expert_parallelism_add_up(seed, cut):
    call = draw(seed=seed)
    whole = moe_experts(**call)
    low = call["experts"] < cut
    here = [torch.where(side, call["experts"], -1) for side in (low, ~low)]
    assert_near(sum(moe_experts(**{**call, "experts": e}) for e in here), whole)


@pytest.mark.statement("MOE-5")
def test_a_token_without_experts_gives_0():
    call = draw()
    call["experts"][2] = -1
    assert torch.equal(moe_experts(**call)[2], torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_result_has_the_dtype_of_the_tokens(dtype):
    assert moe_experts(**draw(dtype=dtype)).dtype == dtype


@pytest.mark.statement("MOE-13")
@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("down", lambda x: x.mT, r"down has shape \(6, 3, 4\), but must have \(6, 4, 3\)"),
        ("experts", lambda x: x + 6, "-1, or indices below 6"),
        ("weights", lambda x: x.float(), "weights has dtype torch.float32"),
        ("gate_up", lambda x: x[:, :5], r"gate_up has shape \(6, 5, 4\)"),
    ],
)
def test_a_wrong_argument_is_named(name, change, text):
    call = draw()
    call[name] = change(call[name])
    with pytest.raises(ContractError, match=text):
        moe_experts(**call)


@pytest.mark.statement("MOE-4")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_hidden_channels_and_results_are_rounded_and_the_sum_once(dtype):
    call = draw(T=9, D=16, hidden=8, k=3, dtype=dtype)
    y = moe_experts(**call)
    for t in range(9):
        total = torch.zeros(16)
        for e, w in zip(call["experts"][t].tolist(), call["weights"][t], strict=True):
            hidden = (call["x"][t].float() @ call["gate_up"][e].float().T).to(dtype)
            total += w * (swiglu(hidden).float() @ call["down"][e].float().T).to(dtype).float()
        assert torch.equal(y[t], total.to(dtype))
