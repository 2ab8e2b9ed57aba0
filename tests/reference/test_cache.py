"""Laws of the cache, of padding and of positions."""

import dataclasses

import pytest
import torch
from drawing import assert_near
from small import SMALL, small, weights

from lingspec.reference import ContractError, LingModel
from lingspec.reference.cache import HybridCache

IDS = torch.tensor([[5, 9, 7, 3, 1, 6], [8, 2, 2, 90, 4, 44]])
MASK = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
POSITIONS = torch.tensor([[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])


@pytest.fixture
def model():
    return LingModel(*small())


@pytest.mark.statement("CACHE-1", "PREC-1")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_state_does_not_grow_and_rows_do(dtype):
    model = LingModel(SMALL, weights(), dtype=dtype)
    cache = model.new_cache(2)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for tokens in (0, 4, 5):
        if tokens:
            model(IDS[:, cache.length : tokens], cache=cache)
        for layer in (0, 2):
            state = cache.layers[layer].state
            assert (state.shape, state.dtype) == ((2, 4, 8, 8), wide)
        for layer in (1, 3, 4):
            rows = cache.layers[layer].rows
            assert (rows.shape, rows.dtype) == ((2, tokens, 16 + 4), dtype)
        assert cache.length == tokens
        assert cache.bytes() == 2 * (2 * 256 * wide.itemsize + 3 * tokens * 20 * dtype.itemsize)


@pytest.mark.statement("CACHE-4")
def test_positions_count_on_from_the_tokens_seen_and_are_not_shifted_by_padding(model):
    given, counted = model.new_cache(2), model.new_cache(2)
    parts = (slice(0, 4), slice(4, 6))
    for part in parts:
        mask = MASK[:, : part.stop]
        positions = torch.arange(part.start, part.stop).expand(2, -1)
        want = model(IDS[:, part], positions, mask, given)
        assert torch.equal(model(IDS[:, part], None, mask, counted), want)


@pytest.mark.statement("CACHE-5", "LAYER-8", "MLA-21")
@pytest.mark.parametrize("absorbed", [True, False])
@pytest.mark.parametrize("cut", [None, 1, 2, 4])
def test_padding_on_the_left_changes_nothing_behind_it_in_prefill_or_decode(cut, absorbed):
    model = LingModel(*small(), absorbed=absorbed)
    alone = model(IDS[:1, 2:])
    if cut is None:
        got = model(IDS, POSITIONS, MASK)
    else:
        cache = model.new_cache(2)
        got = torch.cat([
            model(IDS[:, :cut], POSITIONS[:, :cut], MASK[:, :cut], cache),
            model(IDS[:, cut:], POSITIONS[:, cut:], MASK, cache),
        ], dim=1)  # fmt: skip
    assert_near(got[:1, 2:], alone, 1e-11)
    assert_near(got[1:], model(IDS[1:]), 1e-11)


@pytest.mark.statement("CACHE-7")
def test_without_a_mask_what_was_padding_stays_so(model):
    caches = model.new_cache(2), model.new_cache(2)
    for cache in caches:
        model(IDS[:, :4], POSITIONS[:, :4], MASK[:, :4], cache)
    rest = IDS[:, 4:], POSITIONS[:, 4:]
    assert torch.equal(model(*rest, None, caches[0]), model(*rest, MASK, caches[1]))
    assert torch.equal(caches[0].valid, MASK == 1)


@pytest.mark.statement("CACHE-6")
@pytest.mark.parametrize(
    ("mask", "text"),
    [
        ([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1]], "attention_mask has shape (2, 5)"),
        ([[0, 0, 1, 1, 1, 2], [1, 1, 1, 1, 1, 1]], "must have 0 and 1"),
        ([[0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]], "must have padding on the left only"),
        ([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]], "must have what the cache was filled with"),
    ],
)
def test_a_wrong_mask_is_refused(model, mask, text):
    cache = model.new_cache(2)
    model(IDS[:, :4], None, MASK[:, :4], cache)
    with pytest.raises(ContractError) as refused:
        model(IDS[:, 4:], None, torch.tensor(mask), cache)
    assert text in str(refused.value)


@pytest.mark.statement("CACHE-8")
def test_a_cache_of_another_model_or_batch_is_refused(model):
    other = HybridCache.empty(dataclasses.replace(SMALL, decay_layer_origin=0), 2, torch.float64)
    with pytest.raises(ContractError, match=r"cache has (configuration|decay_layer_origin)"):
        model(IDS, cache=other)
    with pytest.raises(ContractError, match="cache has batch 3, but must have 2, as input_ids"):
        model(IDS, cache=model.new_cache(3))
