"""Laws of lightning_attention, and its formulations against each other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lingspec.reference import ContractError, lightning_attention
from lingspec.reference.formulations.lightning_attention import (
    lightning_attention_backward,
    lightning_attention_backward_closed,
    lightning_attention_chunked,
    lightning_attention_closed,
)

CLOSE = 1e-12  # float64, sums of a few hundred terms of order 1: n u = 300 * 1.1e-16, with room


def draw(B=1, T=9, H=3, K=5, V=4, seed=0, dtype=torch.float64, state=True, packed=None):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    wide = torch.float64 if dtype == torch.float64 else torch.float32
    call = {
        "q": normal(B, T, H, K),
        "k": normal(B, T, H, K),
        "v": normal(B, T, H, V),
        "log_decay": -torch.rand(H, generator=g, dtype=torch.float64).to(wide) * 2,
        "scale": 0.37,
    }
    if packed is not None:
        call["cu_seqlens"] = torch.tensor(packed)
    if state:
        N = B if packed is None else len(packed) - 1
        call["initial_state"] = normal(N, H, K, V).to(wide)
    return call


def assert_near(got, want):
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=CLOSE, atol=CLOSE)


@pytest.mark.statement("LIN-1", "LIN-2", "LIN-10")
@given(T=st.integers(0, 40), chunk=st.integers(1, 20), seed=st.integers(0, 999))
def test_the_closed_and_the_chunked_form_are_the_recurrence(T, chunk, seed):
    call = draw(T=T, seed=seed, B=2)
    want = lightning_attention(**call)
    assert_near(lightning_attention_closed(**call), want)
    assert_near(lightning_attention_chunked(**call, chunk=chunk), want)


@pytest.mark.statement("LIN-5")
@given(before=st.integers(0, 9), after=st.integers(0, 9), seed=st.integers(0, 999))
def test_cutting_a_sequence_anywhere_changes_no_bit(before, after, seed):
    call = draw(T=before + after, seed=seed)
    rest = {"log_decay": call["log_decay"], "scale": call["scale"]}
    head = {n: call[n][:, :before] for n in "qkv"}
    tail = {n: call[n][:, before:] for n in "qkv"}

    o, state = lightning_attention(**call)
    o_head, carried = lightning_attention(**head, **rest, initial_state=call["initial_state"])
    o_tail, final = lightning_attention(**tail, **rest, initial_state=carried)

    assert torch.equal(o, torch.cat([o_head, o_tail], dim=1))
    assert torch.equal(state, final)


@pytest.mark.statement("LIN-6")
@given(lengths=st.lists(st.integers(0, 7), max_size=5), seed=st.integers(0, 999))
def test_packed_sequences_are_the_sequences_one_by_one(lengths, seed):
    ends = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    call = draw(T=ends[-1], packed=ends, seed=seed)
    o, state = lightning_attention(**call)
    for n, (first, last) in enumerate(zip(ends, ends[1:], strict=False)):
        alone = {x: call[x][:, first:last] for x in "qkv"}
        o_n, state_n = lightning_attention(
            **alone, log_decay=call["log_decay"], scale=call["scale"],
            initial_state=call["initial_state"][n : n + 1],
        )  # fmt: skip
        assert torch.equal(o[:, first:last], o_n)
        assert torch.equal(state[n : n + 1], state_n)


@pytest.mark.statement("LIN-4")
@given(t=st.integers(0, 7), seed=st.integers(0, 999))
def test_no_output_depends_on_a_later_token(t, seed):
    call = draw(T=9, seed=seed)
    o, _ = lightning_attention(**call)
    later = draw(T=9, seed=seed + 1)
    mixed = {n: torch.cat([call[n][:, : t + 1], later[n][:, t + 1 :]], dim=1) for n in "qkv"}
    o_mixed, _ = lightning_attention(**{**call, **mixed})
    assert torch.equal(o[:, : t + 1], o_mixed[:, : t + 1])


@pytest.mark.statement("LIN-1")
def test_one_key_is_forgotten_by_exactly_the_decay():
    call = draw(T=12, H=2, K=3, V=2, state=False)
    call["k"][:, 1:] = 0
    _, state = lightning_attention(**call)
    first = call["k"][0, 0, :, :, None] * call["v"][0, 0, :, None, :]
    want = (call["log_decay"] * 11).exp()[:, None, None] * first
    torch.testing.assert_close(state[0], want, rtol=CLOSE, atol=0)


@pytest.mark.statement("LIN-9")
def test_the_caller_s_tensors_are_not_written_to():
    call = draw(T=7)
    before = {n: x.clone() for n, x in call.items() if isinstance(x, Tensor)}
    _, state = lightning_attention(**call)
    state += 1
    assert all(torch.equal(call[n], x) for n, x in before.items())


@pytest.mark.statement("LIN-7", "LIN-9")
def test_an_empty_call_returns_a_copy_of_the_initial_state():
    call = draw(T=0)
    o, state = lightning_attention(**call)
    assert o.shape == (1, 0, 3, 4)
    assert torch.equal(state, call["initial_state"])
    assert state.data_ptr() != call["initial_state"].data_ptr()
    o, state = lightning_attention(**draw(T=0, state=False))
    assert torch.equal(state, torch.zeros(1, 3, 5, 4, dtype=torch.float64))


@pytest.mark.statement("LIN-8")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_inputs_are_computed_in_float32_and_rounded_once(dtype):
    call = draw(T=17, dtype=dtype)
    o, state = lightning_attention(**call)
    assert o.dtype == dtype
    assert state.dtype == torch.float32
    wide = {n: x.float() if isinstance(x, Tensor) else x for n, x in call.items()}
    o32, state32 = lightning_attention(**wide)
    assert torch.equal(o, o32.to(dtype))
    assert torch.equal(state, state32)


@pytest.mark.statement("LIN-11")
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    packed=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_gradients_are_autograd_s(lengths, packed, seed):
    ends = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    call = draw(T=ends[-1], packed=ends if packed else None, seed=seed, B=1 if packed else 2)
    names = ("q", "k", "v", "initial_state")
    leaves = {n: call[n].requires_grad_() for n in names}
    o, state = lightning_attention(**call)
    do, dstate = torch.randn_like(o), torch.randn_like(state)
    want = torch.autograd.grad(
        [o, state], list(leaves.values()), [do, dstate], materialize_grads=True
    )
    plain = {n: x.detach() if isinstance(x, Tensor) else x for n, x in call.items()}
    given = {"do": do, "dfinal_state": dstate, **plain}
    assert_near(lightning_attention_backward(**given), want)
    for into in (("q",), ("do",), ("q", "k"), ("do", "v"), ("k", "v", "do")):
        assert_near(lightning_attention_backward_closed(**given, into=into), want)


@pytest.mark.parametrize("into", [(), ("k",), ("q", "do"), ("q", "w")])
def test_the_decay_is_folded_into_q_or_do_and_nothing_unknown(into):
    call = draw()
    given = {"do": call["v"], "dfinal_state": call["initial_state"], **call}
    with pytest.raises(ContractError, match="either q or do, and any of k and v"):
        lightning_attention_backward_closed(**given, into=into)


def test_a_decay_of_minus_ten_thousand_leaves_only_the_token_itself():
    call = draw(T=6, H=1, state=True)
    call["log_decay"] = torch.tensor([-1e4], dtype=torch.float64)
    o, _ = lightning_attention_chunked(**call, chunk=4)
    alone = (call["q"] * call["k"]).sum(-1, keepdim=True) * call["v"] * call["scale"]
    torch.testing.assert_close(o, alone, rtol=CLOSE, atol=CLOSE)


@pytest.mark.statement("LIN-13")
@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("k", lambda x: x[:, :-1], "k has shape (1, 8, 3, 5), but must have (1, 9, 3, 5), as q"),
        ("v", lambda x: x.float(), "v has dtype torch.float32, but must have torch.float64, as q"),
        ("log_decay", lambda x: -x, "log_decay has values"),
        ("log_decay", lambda x: x[:2], "log_decay has shape (2,), but must have (3,)"),
        ("initial_state", lambda x: x.float(), "initial_state has dtype torch.float32"),
        ("initial_state", lambda x: x[:, :, :, :1], "initial_state has shape (1, 3, 5, 1)"),
        ("cu_seqlens", lambda _: torch.tensor([0, 5, 3, 9]), "0 first, 9 last, never falling"),
        ("cu_seqlens", lambda _: torch.tensor([0.0, 9.0]), "cu_seqlens has dtype torch.float32"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_expected(name, change, text):
    call = draw()
    call[name] = change(call.get(name))
    with pytest.raises(ContractError) as refused:
        lightning_attention(**call)
    assert text in str(refused.value)


@pytest.mark.statement("LIN-13")
def test_a_batch_of_packed_sequences_is_refused():
    call = draw(B=2, state=False)
    with pytest.raises(ContractError, match="B = 1 where cu_seqlens is given"):
        lightning_attention(**call, cu_seqlens=torch.tensor([0, 9]))


@pytest.mark.statement("LIN-3")
def test_the_first_token_reads_itself_alone():
    call = draw(T=1, state=False)
    o, _ = lightning_attention(**call)
    own = (call["q"] * call["k"]).sum(-1, keepdim=True) * call["v"] * call["scale"]
    torch.testing.assert_close(o, own, rtol=CLOSE, atol=CLOSE)


@pytest.mark.statement("LIN-12")
def test_decays_of_0_and_of_minus_ten_thousand_keep_everything_and_nothing():
    call = draw(T=6, H=2)
    call["log_decay"] = torch.tensor([0.0, -1e4], dtype=torch.float64)
    o, state = lightning_attention(**call)
    kept = call["initial_state"][:, 0] + torch.einsum(
        "btk,btv->bkv", call["k"][:, :, 0], call["v"][:, :, 0]
    )
    torch.testing.assert_close(state[:, 0], kept, rtol=CLOSE, atol=CLOSE)
    own = (call["q"] * call["k"]).sum(-1, keepdim=True) * call["v"] * call["scale"]
    torch.testing.assert_close(o[:, :, 1], own[:, :, 1], rtol=CLOSE, atol=CLOSE)
