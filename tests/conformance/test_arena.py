"""Inputs lie between guards, keep their strides, and every byte of them is watched."""

from __future__ import annotations

import pytest
import torch

from lingspec.conformance.runner.arena import GUARD, Arena, laid_as, view
from lingspec.conformance.values import LAYOUTS, laid_out


@pytest.fixture
def arena():
    made = Arena()
    yield made
    made.close()


def placed(arena, tensors, far=None):
    arena.place(tensors, far)
    arena.fill(tensors)
    return arena.snapshot()


def whole(arena):
    return arena._bytes()


def some(layout="dense"):
    x = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    ids = torch.arange(4, dtype=torch.int32)
    return {"q": laid_out(x, layout), "cu": ids, "none": torch.zeros(0, 4)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_strides_are_those_of_the_tensor(arena, layout):
    tensors = some(layout)
    placed(arena, tensors)
    for name, x in tensors.items():
        got = view(whole(arena), arena.slots[name])
        assert torch.equal(got, x)
        assert got.stride() == x.stride() or x.numel() == 0
        assert torch.equal(arena.read(name), x)


def test_an_expanded_tensor_stays_expanded(arena):
    x = torch.arange(3.0)[:, None].expand(3, 1000)
    placed(arena, {"x": x})
    got = view(whole(arena), arena.slots["x"])
    assert torch.equal(got, x)
    assert got.stride() == (1, 0)
    assert arena.slots["x"].elements == 3


@pytest.mark.parametrize("layout", ["padded", "stepped", "fused"])
def test_what_lies_around_and_between_is_nan(arena, layout):
    placed(arena, some(layout))
    slot = arena.slots["q"]
    first, last = slot.start, slot.start + slot.elements * 4
    assert first >= GUARD
    assert bool((whole(arena)[first - GUARD : first] == 0xFF).all())
    assert bool((whole(arena)[last : last + GUARD] == 0xFF).all())
    region = whole(arena)[first:last].view(torch.float32)
    assert int(region.isnan().sum()) == slot.elements - 120


def test_what_nobody_wrote_is_unchanged(arena):
    before = placed(arena, some())
    assert arena.changed(before, frozenset()) is None


@pytest.mark.parametrize(
    ("byte", "said"),
    [
        (lambda s: s.start, "q"),
        (lambda s: s.start + 4 * s.elements - 1, "q"),
        (lambda s: s.start + 4 * 5, "memory between the elements of q"),
        (lambda s: s.start - 1, "memory outside every input, byte 1 before q"),
        (lambda s: s.start - GUARD, f"memory outside every input, byte {GUARD} before q"),
        (lambda s: s.start + 4 * s.elements, "memory outside every input, byte 1 after q"),
        (lambda s: s.start + 4 * s.elements + 99, "memory outside every input, byte 100 after q"),
    ],
)
def test_a_changed_byte_is_named(arena, byte, said):
    before = placed(arena, some("padded"))
    whole(arena)[byte(arena.slots["q"])] ^= 1
    assert arena.changed(before, frozenset()) == said


def test_a_tensor_that_may_change_may_and_the_room_around_it_may_not(arena):
    before = placed(arena, some("padded"))
    view(whole(arena), arena.slots["q"]).zero_()
    assert arena.changed(before, frozenset({"q"})) is None
    assert arena.changed(before, frozenset({"cu"})) == "q"
    whole(arena)[arena.slots["q"].start + 20] ^= 1
    assert arena.changed(before, frozenset({"q"})) == "memory between the elements of q"


def test_who_writes_after_the_seal_is_found_and_what_is_laid_out_again_is_not_sealed(arena):
    placed(arena, some("padded"))
    arena.seal()
    assert arena.disturbed() is None
    whole(arena)[arena.slots["q"].start] ^= 1
    assert arena.disturbed() == "q"
    assert arena.disturbed() is None
    arena.seal()
    placed(arena, {"x": torch.zeros(3)})
    assert arena.disturbed() is None


def test_the_same_memory_serves_the_next_call_and_nothing_of_the_last_is_left(arena):
    placed(arena, {"x": torch.full((64,), 7.0)})
    at = arena.slots["x"].start
    assert not arena.place({"x": torch.zeros(2)})
    arena.fill({"x": torch.zeros(2)})
    assert arena.slots["x"].start == at
    assert not bool((whole(arena)[: arena.used].view(torch.float32) == 7.0).any())


def test_the_last_element_of_a_far_tensor_lies_beyond_two_to_the_31(arena):
    tensors = some()
    before = placed(arena, tensors, far={"q": 1})
    slot = arena.slots["q"]
    last = sum((n - 1) * s for n, s in zip(slot.shape, slot.strides, strict=True))
    assert last > 2**31
    assert torch.equal(view(whole(arena), slot), tensors["q"])
    assert arena.changed(before, frozenset()) is None
    view(whole(arena), slot)[1, 2, 3, 4] = -1
    assert arena.changed(before, frozenset()) == "q"
    assert arena.changed(before, frozenset({"q"})) is None


def test_gigabytes_are_given_back_after_a_far_call(arena):
    placed(arena, some(), far={"q": 1})
    assert arena.size > 2**33
    assert arena.place(some())
    assert arena.size < 2**28


def test_nothing_to_place_is_placed(arena):
    before = placed(arena, {})
    whole(arena)[3] ^= 1
    assert arena.changed(before, frozenset()) == "memory that holds no input"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("part", [slice(0, 2), slice(1, 2)], ids=["whole", "member"])
def test_values_that_replace_others_have_their_strides(layout, part):
    like = laid_out(torch.zeros(2, 3, 4, 5), layout)
    other = laid_out(torch.randn(2, 3, 4, 5), layout)[part].contiguous()
    got = laid_as(other, like)
    assert got.stride() == like.stride()
    assert got.storage_offset() == like.storage_offset()
    assert torch.equal(got, other)


@pytest.mark.parametrize(
    ("x", "like"),
    [
        (torch.randn(2, 3), torch.zeros(3, 2).mT[:1]),
        (torch.randn(6), torch.zeros(3, 2)),
        (torch.randn(2, 3), torch.zeros(1, 3).expand(2, 3)),
    ],
    ids=["larger", "of another rank", "expanded"],
)
def test_values_that_do_not_fit_stay_as_they_are(x, like):
    assert laid_as(x, like) is x


def test_a_view_begins_where_it_begins_in_its_buffer(arena):
    x = laid_out(torch.randn(2, 3, 4, 5), "padded")
    placed(arena, {"x": x})
    got = view(whole(arena), arena.slots["x"])
    assert got.data_ptr() % 16 == 4
    assert torch.equal(got, x)
