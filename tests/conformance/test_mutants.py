"""Quick checks of the mutants and honest variants of the lightning ops, without the suite."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_calls import (
    ATTENTION,
    DTYPES,
    apart,
    attention_call,
    copied,
    dtypes,
    limits,
    of,
    parameters,
    recurrence,
    run,
)

from lingspec.conformance.laws import LAWS
from lingspec.conformance.registry import honest, load, mutants

README = Path(__file__).parents[2] / "README.md"
NARROW = {"bfloat16", "float16"}


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def unchanged(views, call):
    """The inputs are, and so is the NaN around those that `apart` placed."""
    tensors = {name: x for name, x in views.items() if isinstance(x, torch.Tensor)}
    placed = [x for x in tensors.values() if x._base is not None]
    around = sum(int(x._base.isnan().sum()) for x in placed)
    return around == sum(x._base.numel() - x.numel() for x in placed) and all(
        torch.equal(x, call[name]) for name, x in tensors.items()
    )


@functools.cache
def expected(name, dtype):
    """A call, its answer and the limits; kept, since nearly every test asks for them."""
    call = attention_call(**ATTENTION[name], dtype=dtype)
    answer = recurrence(**call)
    return call, answer, limits(call, *answer, dtype)


def is_right(result, call, answer, limit):
    return (
        result[0].dtype == call["q"].dtype
        and result[1].dtype == call["log_decay"].dtype
        and all(
            got.shape == want.shape and bool(((got - want).abs() <= near).all())
            for got, want, near in zip(result, answer, limit, strict=True)
        )
    )


def names(entry):
    return ["packed", "no tokens", "six heads"] if entry.module.endswith("_triton") else ATTENTION


def gradients(function, call, dtype):
    call = copied({**call, "scale": 0.37}, lambda x: x.to(dtype).clone())
    inputs = [call[name] for name in ("q", "k", "v", "initial_state") if call[name] is not None]
    for x in inputs:
        x.requires_grad_()
    o, state = function(**call)
    do = torch.linspace(-1, 1, o.numel()).reshape(o.transpose(1, 3).shape).transpose(1, 3)
    d_state = torch.linspace(1, -1, state.numel()).reshape(state.mT.shape).mT
    return torch.autograd.grad(
        [o, state], inputs, [do.to(o), d_state.to(state)], materialize_grads=True
    )


def gradients_are_right(function, call):
    for got, want in zip(
        gradients(function, call, torch.float32),
        gradients(recurrence, call, torch.float64),
        strict=True,
    ):
        # Sums of at most T (K + V) products, none larger than the largest gradient by far.
        if want.numel() and (got - want).abs().max() > 1e-4 * want.abs().max():
            return False
    return True


def is_wrong(entry, name, dtype):
    """Wrong values, memory changed or shared, or a wrong answer when called again."""
    call, (o, state), limit = expected(name, dtype)
    views = copied(call, apart)
    result = run(entry, views)
    if not is_right(result, call, (o, state), limit) or not unchanged(views, call):
        return True
    views["q"].mul_(2)  # the same storage, other contents
    again = run(entry, views)
    return not is_right(again, call, (2 * o, state), [2 * x for x in limit]) or any(
        x is views["initial_state"] for x in result
    )


@parameters("lightning_attention", honest())
def test_an_honest_variant_of_attention_agrees_with_float64(entry):
    for dtype in dtypes(entry):
        for name in names(entry):
            assert not is_wrong(entry, name, DTYPES[dtype]), (dtype, name)


@parameters("lightning_attention", honest(), backward=True)
def test_an_honest_variant_has_the_gradients_of_the_recurrence(entry):
    for name in ("several chunks and a tail", "square", "packed", "no tokens"):
        assert gradients_are_right(entry.function, attention_call(**ATTENTION[name])), name


def is_observable(name, entry):
    is_plain = not name.startswith(("keeps_the_state_in_", "enlarges_the_output"))
    is_plain = is_plain and name not in (
        "cuts_the_output_to_bfloat16_instead_of_rounding",
        "computes_offsets_into_the_values_in_32_bits",  # wrong in sparse memory only: below
    )
    return is_plain and not set(dtypes(entry)) <= NARROW and not entry.declaration.backward


# Those of modules `_reach` and `_sizes` show only in cases that are not here, but in those of the
# self-test.
NEAR = {n: e for n, e in mutants().items() if not e.module.endswith(("_reach", "_sizes"))}
VISIBLE = {n: e for n, e in NEAR.items() if is_observable(n, e)}


@parameters("lightning_attention", VISIBLE)
def test_a_mutant_of_attention_is_wrong_somewhere(entry):
    assert any(
        is_wrong(entry, name, DTYPES[dtype])
        for dtype in dtypes(entry)
        for name in names(entry)
        for _ in range(2)
    )


@parameters("lightning_attention", NEAR, backward=True)
def test_a_mutant_of_the_backward_pass_has_right_outputs_and_wrong_gradients(entry):
    tried = [expected(name, torch.float32) for name in ("several chunks and a tail", "packed")]
    if not set(dtypes(entry)) <= NARROW:
        assert all(is_right(run(entry, call), call, *right) for call, *right in tried)
    assert not all(gradients_are_right(entry.function, call) for call, *_ in tried)


def error_and_gain(entry, call):
    """Root mean square of the error in units of the profile's own, and the mean gain."""
    found = []
    for got, want in zip(run(entry, call), recurrence(**call), strict=True):
        error = got - want
        found.append(
            (float(error.norm() / want.norm()), float((error * want).sum() / want.norm() ** 2))
        )
    return np.array(found)


NARROW_MUTANTS = {
    n: e for n, e in NEAR.items() if set(dtypes(e)) <= NARROW and not e.declaration.backward
}


@parameters("lightning_attention", NARROW_MUTANTS)
def test_a_mutant_of_narrow_precision_errs_more_than_every_honest_variant(entry):
    shape = {"T": 260, "H": 3, "K": 24, "V": 20, "g": (-0.004, -1e-5, -0.05), "sign": 0}
    for dtype in dtypes(entry):
        call = attention_call(**shape, dtype=DTYPES[dtype])
        peers = [
            np.abs(error_and_gain(peer, call))
            for peer in of("lightning_attention", honest()).values()
            if dtype in dtypes(peer)
        ]
        worst = np.max(peers, axis=0)
        own = np.abs(error_and_gain(entry, call))
        assert (own > 1.25 * worst + [0, 5e-4]).any(), (own, worst)


@pytest.mark.parametrize("name", ["computes_offsets_into_the_values_in_32_bits"])
def test_offsets_beyond_32_bits_are_reached_in_sparse_memory(name):
    far = 2**30
    buffer = torch.from_numpy(np.zeros(2 * far + 2**12, dtype=np.float16))  # pages never touched
    call = attention_call(T=3, H=2, K=4, V=5, g=(-0.3, 0.0), dtype=torch.float16, state=False)
    v = buffer.as_strided((1, 3, 2, 5), (1, far, 5, 1)).copy_(call["v"])
    answer = recurrence(**call)
    right = call, answer, limits(call, *answer, torch.float16)
    assert is_right(honest()["runs_token_by_token"].function(**{**call, "v": v}), *right)
    assert not is_right(mutants()[name].function(**{**call, "v": v}), *right)


def test_every_name_is_a_sentence():
    for name in (*mutants(), *honest()):
        assert re.fullmatch(r"[a-z]+(_[a-z0-9]+){2,}", name), name


def test_every_mutant_names_laws_that_exist():
    for name, entry in mutants().items():
        assert set(entry.declaration.extra["laws"]) <= set(LAWS), name


def test_names_are_unique_among_mutants_and_honest_variants():
    assert not mutants().keys() & honest().keys()


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="must be one of mutants, honest"):
        load("wrong")


def test_the_readme_counts_mutants_and_honest_variants_as_they_are():
    (told,) = re.findall(
        r"(\d+) wrong implementations.*?(\d+) right ones", README.read_text(encoding="utf-8")
    )
    assert told == (str(len(mutants())), str(len(honest())))
