"""`lingspec.kernels.checked` looks at values, then does what the op does."""

import pytest
import torch
from kernel_cases import draw

from lingspec import kernels
from lingspec.kernels import checked


def decode_call(slots=(2, -1, 0)):
    x = torch.ones(3, 2, 4)
    return {
        "q": x, "k": x, "v": x, "log_decay": torch.tensor([0.0, -1.0]), "scale": 1.0,
        "state_pool": torch.ones(3, 2, 4, 4), "slots": torch.tensor(slots),
    }  # fmt: skip


def test_what_is_allowed_gives_the_same_bits():
    call = draw(packed=[0, 3, 3, 20])
    for one, other in zip(
        checked.lightning_attention(**call), kernels.lightning_attention(**call), strict=True
    ):
        assert torch.equal(one, other)
    one, other = decode_call(), decode_call()
    o = checked.lightning_decode(**one)
    assert torch.equal(o, kernels.lightning_decode(**other))
    assert torch.equal(one["state_pool"], other["state_pool"])
    assert torch.equal(checked.lightning_log_decay(6, 1, 4), kernels.lightning_log_decay(6, 1, 4))


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([1, 9], "cu_seqlens has first value 1, but must have 0"),
        ([0, 8], "cu_seqlens has last value 8, but must have T = 9"),
        ([0, 5, 3, 9], r"cu_seqlens has values \[0, 5, 3, 9\], but must have no value below"),
    ],
)
def test_wrong_ends_of_sequences_are_refused(ends, message):
    call = {**draw(B=1, T=9, state=False), "cu_seqlens": torch.tensor(ends)}
    with pytest.raises(ValueError, match=message):
        checked.lightning_attention(**call)


@pytest.mark.parametrize("bad", [1e-6, float("nan"), float("-inf")])
def test_decays_that_grow_or_are_not_finite_are_refused(bad):
    message = "log_decay has value .*, but must have finite values <= 0"
    call = draw()
    call["log_decay"][1] = bad
    with pytest.raises(ValueError, match=message):
        checked.lightning_attention(**call)
    with pytest.raises(ValueError, match=message):
        checked.lightning_decode(**{**decode_call(), "log_decay": torch.tensor([0.0, bad])})


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ((0, 3, 1), r"slots has values \[3\], but must have -1 to 2"),
        ((0, -2, 1), r"slots has values \[-2\], but must have -1 to 2"),
        ((1, -1, 1), r"slots has repeated values \[1\], but must have each row at most once"),
    ],
)
def test_slots_outside_the_pool_or_used_twice_are_refused(slots, message):
    call = decode_call(slots)
    before = call["state_pool"].clone()
    with pytest.raises(ValueError, match=message):
        checked.lightning_decode(**call)
    assert torch.equal(call["state_pool"], before)
