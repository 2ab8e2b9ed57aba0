"""Laws of the lightning attention kernel, forward."""

import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    BF16,
    DTYPES,
    F16,
    F32,
    among_nans,
    assert_within,
    draw,
    far_apart,
    limits,
    truth,
)
from torch import Tensor

from lingspec.kernels import lightning_attention

MODULE = importlib.import_module("lingspec.kernels._scan")
LENGTHS = [0, 1, 15, 16, 17, 63, 64, 65, 129]


def assert_agrees(call):
    o, state = lightning_attention(**call)
    assert o.dtype == call["q"].dtype
    assert state.dtype == torch.float32
    for name, *three in zip(
        ("o", "final_state"), (o, state), truth(call), limits(call), strict=True
    ):
        assert_within(name, *three)


def bits(tensors):
    return [
        x.contiguous().view(torch.int16 if x.element_size() == 2 else torch.int32) for x in tensors
    ]


def assert_same_bits(got, want):
    for one, other in zip(bits(got), bits(want), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", LENGTHS)
def test_outputs_and_states_are_those_of_the_recurrence(T, dtype):
    assert_agrees(draw(T=T, K=12 + T % 7, V=20, dtype=dtype, seed=T, state=T % 2 == 0))


@pytest.mark.parametrize(
    "dims", [(1, 1), (8, 80), (80, 8), (17, 33), (129, 20), (20, 130), (256, 40)]
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_key_and_value_dims_are_any_from_1_to_256(dims, dtype):
    assert_agrees(draw(B=1, T=70, H=2, K=dims[0], V=dims[1], dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.0, -0.25])
def test_any_scale_scales_the_output_and_not_the_state(scale, dtype):
    assert_agrees({**draw(T=66, dtype=dtype), "scale": scale})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", [1, 63, 129])
def test_decays_from_none_to_total_are_finite_and_right(T, dtype):
    decays = (0.0, -1e-5, -30.0, -88.0, -200.0, -1e4, -3e38)
    assert_agrees(draw(B=1, T=T, H=len(decays), dtype=dtype, decays=decays))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_packed_sequences_are_the_sequences_one_by_one(seed, dtype):
    ends = [0, 0, 1, 66, 66, 130, 147, 147]
    call = draw(packed=ends, dtype=dtype, seed=seed)
    o, state = lightning_attention(**call)
    assert_agrees(call)
    for n, (first, last) in enumerate(zip(ends, ends[1:], strict=False)):
        alone = {name: call[name][:, first:last] for name in "qkv"}
        rest = {"log_decay": call["log_decay"], "scale": call["scale"]}
        one = lightning_attention(**alone, **rest, initial_state=call["initial_state"][n : n + 1])
        assert_same_bits(one, (o[:, first:last], state[n : n + 1]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_state_handed_over_at_any_token_is_the_state_of_that_token(dtype):
    call = draw(B=1, T=131, dtype=dtype)
    for cut in (0, 1, 63, 64, 65, 128, 131):
        head = {**call, **{name: call[name][:, :cut] for name in "qkv"}}
        _, state = lightning_attention(**head)
        assert_within("state", state, truth(head)[1], limits(head)[1])
        tail = {**call, **{name: call[name][:, cut:] for name in "qkv"}, "initial_state": state}
        assert_agrees(tail)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("t", [0, 15, 63, 64, 70])
def test_no_output_depends_on_a_later_token(t, dtype):
    call = draw(T=72, dtype=dtype)
    o, _ = lightning_attention(**call)
    for name in "qkv":
        call[name][:, t + 1 :] = 6e4 if dtype == F16 else -3e30
    other, _ = lightning_attention(**call)
    assert_same_bits((o[:, : t + 1],), (other[:, : t + 1],))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_heads_and_sequences_do_not_see_each_other(dtype):
    call = draw(B=3, T=70, dtype=dtype)
    o, state = lightning_attention(**call)
    call["q"][1] = call["k"][1] = call["v"][1] = torch.nan
    call["v"][:, :, 2] = torch.nan
    call["initial_state"][:, 2] = torch.nan
    other = lightning_attention(**call)
    kept = ((0, 2), slice(None), slice(0, 2))
    assert_same_bits((other[0][kept], other[1][[0, 2], :2]), (o[kept], state[[0, 2], :2]))


def head_first(x: Tensor) -> Tensor:
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def every_second_lane(x: Tensor) -> Tensor:
    return torch.stack((x, torch.full_like(x, torch.nan)), dim=-1).flatten(-2)[..., ::2]


def dims_turned_round(x: Tensor) -> Tensor:
    return x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)


@pytest.mark.parametrize("layout", [head_first, every_second_lane, dims_turned_round, among_nans])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layout_changes_no_bit(layout, dtype):
    call = draw(T=67, dtype=dtype)
    laid = {n: layout(x) if isinstance(x, Tensor) and x.dim() == 4 else x for n, x in call.items()}
    assert_same_bits(lightning_attention(**laid), lightning_attention(**call))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_expanded_inputs_are_read_as_if_copied(dtype):
    call = draw(T=67, dtype=dtype)
    call["q"] = call["q"][:, :, :1].expand(-1, -1, 3, -1)
    call["k"] = call["k"][:1].expand(2, -1, -1, -1)
    call["v"] = call["v"][:, :1, :, :1].expand(-1, 67, -1, 20)
    call["initial_state"] = call["initial_state"][:, :, :1].expand(-1, -1, 12, -1)
    copied = {n: x.contiguous() if isinstance(x, Tensor) else x for n, x in call.items()}
    assert_same_bits(lightning_attention(**call), lightning_attention(**copied))


def test_small_vectors_may_be_strided():
    call = draw(packed=[0, 5, 5, 70], seed=1)
    strided = dict(call)
    strided["log_decay"] = call["log_decay"].repeat_interleave(2)[::2]
    strided["cu_seqlens"] = call["cu_seqlens"].repeat_interleave(3)[::3]
    assert_same_bits(lightning_attention(**strided), lightning_attention(**call))


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_offsets_pass_two_to_the_31st(dtype, tmp_path):
    T, K, V = 18, 3, 4
    far = 2**27 + 8  # elements between two tokens: 17 of them are past 2**31
    space = far_apart(tmp_path / "sparse", far * T, dtype)
    call = draw(B=1, T=T, H=1, K=K, V=V, dtype=dtype)
    laid = dict(call)
    for i, name in enumerate("qkv"):
        shape = call[name].shape
        laid[name] = space.as_strided(shape, (1, far, 64, 1), 128 * i).copy_(call[name])
    assert_same_bits(lightning_attention(**laid), lightning_attention(**call))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_inputs_are_not_written_to(dtype):
    call = draw(packed=[0, 30, 67], dtype=dtype)
    before = {n: x.clone() for n, x in call.items() if isinstance(x, Tensor)}
    o, state = lightning_attention(**call)
    o.zero_()
    state.zero_()
    assert all(torch.equal(call[name], x) for name, x in before.items())


def test_the_same_call_gives_the_same_bits():
    call = draw(T=70, dtype=BF16)
    assert_same_bits(lightning_attention(**call), lightning_attention(**call))


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("sizes", [{"T": 0}, {"B": 0, "T": 3}, {"H": 0, "T": 3}, {"packed": [0]}])
def test_nothing_in_gives_the_initial_state_out(sizes, state):
    call = draw(**sizes, state=state)
    o, final = lightning_attention(**call)
    assert o.shape == call["v"].shape
    want = call["initial_state"] if state else torch.zeros_like(final)
    assert torch.equal(final, want)
    assert not state or final.numel() == 0 or final.data_ptr() != want.data_ptr()


def test_float16_states_and_scores_may_pass_65504():
    T = 400
    call = draw(B=1, T=T, H=1, K=4, V=3, dtype=F16, decays=(0.0,), state=False)
    call["q"], call["scale"] = torch.ones_like(call["q"]), 2.0**-12
    call["k"], call["v"] = torch.full_like(call["k"], 40.0), torch.full_like(call["v"], 20.0)
    assert truth(call)[1].max() > 3e5
    assert_agrees(call)
    call["q"] = call["q"] * 30000.0
    call["v"], call["scale"] = call["v"] / 2000, 2.0**-4
    assert_agrees({**call, **{n: call[n][:, :10] for n in "qkv"}})


@pytest.mark.parametrize("log_decay", [0.0, -1e-5, -0.004])
def test_a_long_memory_is_as_exact_as_a_short_one(log_decay):
    T = 9600  # 150 chunks; a decay rounded once a chunk may drift by 150 2^-25 = 4.5e-6
    call = draw(B=1, T=T, H=1, K=4, V=3, decays=(log_decay,))
    call["initial_state"] *= 1000
    o, state = lightning_attention(**call)
    want_o, want_state = truth(call)
    # a random walk of 300 roundings of at most half an ulp of the state: 300**0.5 2^-24 = 1e-6
    assert (state - want_state).norm() <= 1.2e-6 * want_state.norm()
    assert (o - want_o).norm() <= 1.2e-6 * want_o.norm()


@settings(max_examples=30)
@given(data=st.data())
def test_small_packed_calls_agree_with_the_recurrence(data):
    cuts = sorted(data.draw(st.lists(st.integers(0, 40), max_size=3)))
    sizes = {n: data.draw(st.integers(1, m), label=n) for n, m in (("H", 3), ("K", 20), ("V", 36))}
    dtype = data.draw(st.sampled_from(DTYPES))
    seed = data.draw(st.integers(0, 99))
    state = data.draw(st.booleans())
    assert_agrees(draw(packed=[0, *cuts], **sizes, dtype=dtype, seed=seed, state=state))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_limits_are_a_small_part_of_the_signal(dtype):
    call = draw(T=129, dtype=dtype)
    share = {F32: 1e-4, BF16: 0.1, F16: 0.01}[dtype]
    for y, limit in zip(truth(call), limits(call), strict=True):
        assert limit.median() < share * y.square().mean().sqrt()


def test_the_grid_grows_in_its_first_dim_only(monkeypatch):
    grids = []

    class Recorder:
        def __getitem__(self, grid):
            grids.append(grid)
            return lambda *_, **__: None

    monkeypatch.setattr(MODULE, "scan", Recorder())
    q = torch.zeros(1, 1, 1, 1).expand(70000, 1, 2, 1)
    lightning_attention(q, q, q, torch.zeros(2), scale=1.0)
    assert grids == [(140000,)]


REFUSALS = {
    "q has dtype torch.float64, but must have torch.float32 or": {
        "q": torch.zeros(2, 9, 3, 12).double()
    },
    "q has shape (2, 9, 12), but must have 4 dims": {"q": torch.zeros(2, 9, 12)},
    "q has last dim 257, but must have 1 to 256": {"q": torch.zeros(2, 9, 3, 257)},
    "k has shape (2, 9, 3, 13), but must have (2, 9, 3, 12)": {"k": torch.zeros(2, 9, 3, 13)},
    "v has shape (2, 8, 3, 20), but must have (2, 9, 3, 20)": {"v": torch.zeros(2, 8, 3, 20)},
    "v has dtype torch.bfloat16, but must have torch.float32": {
        "v": torch.zeros(2, 9, 3, 20).bfloat16()
    },
    "log_decay has shape (4,), but must have (3,)": {"log_decay": torch.zeros(4)},
    "log_decay has dtype torch.float16, but must have": {"log_decay": torch.zeros(3).half()},
    "log_decay has requires_grad True, but must have no": {
        "log_decay": torch.zeros(3, requires_grad=True)
    },
    "initial_state has shape (2, 3, 20, 12), but must": {
        "initial_state": torch.zeros(2, 3, 20, 12)
    },
    "initial_state has dtype torch.bfloat16, but must": {
        "initial_state": torch.zeros(2, 3, 12, 20).bfloat16()
    },
    "q has batch 2, but must have 1, since cu_seqlens": {"cu_seqlens": torch.tensor([0, 9])},
    "cu_seqlens has dtype torch.float32, but must": {"cu_seqlens": torch.tensor([0.0, 9.0])},
    "cu_seqlens has shape (), but must have (N+1,)": {"cu_seqlens": torch.tensor(9)},
}


@pytest.mark.parametrize("message", REFUSALS)
def test_what_the_op_does_not_allow_is_refused_by_name(message):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the text is compared below
        lightning_attention(**{**draw(), **REFUSALS[message]})
    assert str(refusal.value).startswith(message)
