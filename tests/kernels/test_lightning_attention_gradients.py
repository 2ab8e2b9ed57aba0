"""Laws of the lightning attention kernel, backward."""

import pytest
import torch
from kernel_cases import (
    BF16,
    DTYPES,
    F32,
    assert_within,
    draw,
    gradient_limits,
    truth_with_gradients,
)

from lingspec.kernels import lightning_attention


def cotangents(call, seed=5):
    g = torch.Generator().manual_seed(seed)
    N = len(call["cu_seqlens"]) - 1 if "cu_seqlens" in call else call["q"].shape[0]
    do = torch.randn(call["v"].shape, generator=g).to(call["v"].dtype)
    return do, torch.randn(N, *call["q"].shape[2:], call["v"].shape[3], generator=g)


def gradients(call, do, dfinal):
    call = dict(call)
    names = [name for name in ("q", "k", "v", "initial_state") if name in call]
    for name in names:
        call[name] = call[name].clone().requires_grad_()
    results = lightning_attention(**call)
    pairs = [(y, dy) for y, dy in zip(results, (do, dfinal), strict=True) if dy is not None]
    found = torch.autograd.grad(
        [y for y, _ in pairs], [call[n] for n in names], [dy for _, dy in pairs], allow_unused=True
    )
    return dict(zip(names, found, strict=True))


def assert_gradients_agree(call, do, dfinal):
    found = gradients(call, do, dfinal)
    limits = gradient_limits(call, do, dfinal)
    for name, want in truth_with_gradients(call, do, dfinal).items():
        assert found[name].dtype == call[name].dtype
        assert_within(f"d{name}", found[name], want, limits[name])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", [0, 1, 16, 63, 64, 65, 129])
def test_gradients_are_those_of_the_recurrence(T, dtype):
    call = draw(B=2, T=T, H=3, K=20, V=12, dtype=dtype, state=T % 2 == 0, seed=T)
    assert_gradients_agree(call, *cotangents(call))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_of_packed_sequences_are_those_of_the_recurrence(dtype):
    call = draw(packed=[0, 0, 1, 67, 67, 90], H=2, dtype=dtype)
    assert_gradients_agree(call, *cotangents(call))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dims", [(80, 8), (8, 80), (150, 20)])
def test_gradients_for_dims_that_are_no_powers_of_two(dims, dtype):
    call = draw(B=1, T=66, H=2, K=dims[0], V=dims[1], dtype=dtype)
    assert_gradients_agree(call, *cotangents(call))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_under_decays_from_none_to_total(dtype):
    call = draw(B=1, T=70, H=6, dtype=dtype, decays=(0.0, -1e-5, -30.0, -88.0, -200.0, -1e4))
    assert_gradients_agree(call, *cotangents(call))


def test_expanded_and_transposed_upstream_gradients_are_read_as_if_copied():
    call = draw(T=66, H=2, K=12, V=12)
    do, dfinal = cotangents(call)
    for one, two in (
        (do[..., :1].expand_as(do), dfinal[:1].expand_as(dfinal)),
        (torch.ones(()).expand_as(do), torch.ones(()).expand_as(dfinal)),
        (do.transpose(1, 2).contiguous().transpose(1, 2), dfinal.mT),
    ):
        strided = gradients(call, one, two)
        copied = gradients(call, one.contiguous(), two.contiguous())
        assert all(torch.equal(strided[name], copied[name]) for name in strided)


def test_a_cotangent_that_is_absent_counts_as_zero():
    call = draw(B=1, T=66, H=2)
    do, dfinal = cotangents(call)
    no_do, no_dfinal = torch.zeros_like(do), torch.zeros_like(dfinal)
    for absent, zero in (((do, None), (do, no_dfinal)), ((None, dfinal), (no_do, dfinal))):
        found, want = gradients(call, *absent), gradients(call, *zero)
        assert all(torch.equal(found[name], want[name]) for name in found)


@pytest.mark.parametrize("asked", ["q", "k", "v", "initial_state"])
def test_each_gradient_can_be_asked_for_alone(asked):
    call = draw(B=1, T=66, H=2)
    want = gradients(call, *cotangents(call))[asked]
    alone = {**call, asked: call[asked].clone().requires_grad_()}
    found = torch.autograd.grad(lightning_attention(**alone), alone[asked], cotangents(call))[0]
    assert torch.equal(found, want)


def test_gradients_of_strided_inputs_are_those_of_copies():
    call = draw(T=66, dtype=BF16)
    strided = dict(call)
    strided["q"] = call["q"][:, :, :1].expand(-1, -1, 3, -1)
    strided["v"] = call["v"].transpose(1, 2).contiguous().transpose(1, 2)
    copied = {n: x.contiguous() if isinstance(x, torch.Tensor) else x for n, x in strided.items()}
    results = []
    for inputs in (strided, copied):
        leaves = [inputs[n].detach().requires_grad_() for n in "qkv"]
        o, state = lightning_attention(
            *leaves, inputs["log_decay"], scale=0.37, initial_state=inputs["initial_state"]
        )
        results.append(torch.autograd.grad((o, state), leaves, cotangents(inputs)))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_the_gradient_of_a_batch_row_does_not_depend_on_the_others():
    call = draw(B=2, T=66, dtype=BF16)
    do, dfinal = cotangents(call)
    want = gradients(call, do, dfinal)
    call["q"][1] = call["k"][1] = do[1] = torch.nan
    found = gradients(call, do, dfinal)
    assert all(torch.equal(found[name][0], want[name][0]) for name in found)


def test_the_gradient_of_a_cut_run_is_that_of_the_whole_run():
    call = draw(B=1, T=70)
    do, dfinal = cotangents(call)
    leaves = [call[n].clone().requires_grad_() for n in ("q", "k", "v", "initial_state")]
    rest = {"scale": 0.37}
    q, k, v, S = leaves
    outputs = []
    for part in (slice(0, 1), slice(1, 65), slice(65, 70)):
        o, S = lightning_attention(
            q[:, part], k[:, part], v[:, part], call["log_decay"], initial_state=S, **rest
        )
        outputs.append(o)
    found = torch.autograd.grad((torch.cat(outputs, 1), S), leaves, (do, dfinal))
    limits = gradient_limits(call, do, dfinal)
    for got, (name, want) in zip(
        found, truth_with_gradients(call, do, dfinal).items(), strict=True
    ):
        assert_within(f"d{name}", got, want, 2 * limits[name])


def test_inputs_and_cotangents_are_not_written_to():
    call = draw(T=66)
    do, dfinal = cotangents(call)
    kept = [x.clone() for x in (call["q"], call["k"], call["v"], do, dfinal)]
    gradients(call, do, dfinal)
    now = (call["q"], call["k"], call["v"], do, dfinal)
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


def test_a_second_derivative_is_refused():
    call = draw(T=5, dtype=F32)
    call["q"].requires_grad_()
    o, _ = lightning_attention(**call)
    (dq,) = torch.autograd.grad(o.square().sum(), call["q"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dq.sum().backward()
