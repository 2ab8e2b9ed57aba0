"""Laws of lightning_decode."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, lightning_attention, lightning_decode


def draw(B=3, P=5, H=2, K=4, V=3, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return {
        "q": normal(B, H, K).to(dtype),
        "k": normal(B, H, K).to(dtype),
        "v": normal(B, H, V).to(dtype),
        "log_decay": -torch.rand(H, generator=g, dtype=torch.float64).to(wide),
        "state_pool": normal(P, H, K, V).to(wide),
        "slots": torch.randperm(P, generator=g)[:B],
        "scale": 0.37,
    }


@pytest.mark.statement("LIN-14", "LIN-15", "LIN-16")
@given(seed=st.integers(0, 999), padding=st.integers(0, 2))
def test_a_step_is_lightning_attention_over_one_token(seed, padding):
    call = draw(seed=seed)
    call["slots"][padding] = -1
    pool = call["state_pool"].clone()
    o = lightning_decode(**call)
    for b, slot in enumerate(call["slots"].tolist()):
        if slot == -1:
            assert torch.equal(o[b], torch.zeros_like(o[b]))
            continue
        one = {n: call[n][b][None, None] for n in "qkv"}
        o_b, state = lightning_attention(
            **one, log_decay=call["log_decay"], scale=0.37, initial_state=pool[slot : slot + 1]
        )
        torch.testing.assert_close(o[b], o_b[0, 0], rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(call["state_pool"][slot], state[0], rtol=1e-14, atol=1e-14)
    unused = [p for p in range(5) if p not in call["slots"].tolist()]
    assert torch.equal(call["state_pool"][unused], pool[unused])


@pytest.mark.statement("LIN-15")
def test_an_empty_batch_touches_nothing():
    call = draw(B=0)
    pool = call["state_pool"].clone()
    assert lightning_decode(**call).shape == (0, 2, 3)
    assert torch.equal(call["state_pool"], pool)


@pytest.mark.statement("LIN-18")
@pytest.mark.parametrize(
    ("slots", "text"),
    [
        ([1, 1, 2], "-1, or distinct slots below 5"),
        ([0, 1, 5], "-1, or distinct slots below 5"),
        ([0, 1, -2], "-1, or distinct slots below 5"),
        ([0, 1], "slots has shape (2,), but must have (3,)"),
    ],
)
def test_slots_that_are_not_distinct_or_not_there_are_refused(slots, text):
    call = draw()
    call["slots"] = torch.tensor(slots)
    with pytest.raises(ContractError) as refused:
        lightning_decode(**call)
    assert text in str(refused.value)


@pytest.mark.statement("LIN-18")
def test_a_pool_of_another_shape_or_dtype_is_refused():
    call = draw()
    with pytest.raises(ContractError, match="state_pool has shape"):
        lightning_decode(**{**call, "state_pool": call["state_pool"][:, :1]})
    with pytest.raises(ContractError, match="state_pool has dtype"):
        lightning_decode(**{**call, "state_pool": call["state_pool"].float()})


@pytest.mark.statement("LIN-17")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_inputs_are_computed_in_float32_and_rounded_once(dtype):
    call = draw(dtype=dtype, K=16)
    wide = {n: x.float() if n in "qkv" else x for n, x in call.items()}
    wide["state_pool"] = call["state_pool"].clone()
    o, o32 = lightning_decode(**call), lightning_decode(**wide)
    assert o.dtype == dtype
    assert torch.equal(o, o32.to(dtype))
    assert torch.equal(call["state_pool"], wide["state_pool"])
