"""What does not fit is named, and nothing is lost: taps, caches, positions, generation."""

import dataclasses

import pytest
import torch
from small import SMALL

from lingspec.reference import Call, ContractError, LingModel
from lingspec.reference.cache import LatentCache, LightningCache
from lingspec.reference.synthetic import Synthetic

IDS = torch.arange(14).view(2, 7)
MODEL = LingModel(SMALL, Synthetic(SMALL, 0, torch.float64))


def returning(name, what):
    return lambda seen, x: what(x) if seen == name else None


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("shape", [(2, 0), (0, 3), (0, 0)])
def test_no_tokens_and_no_sequences_give_no_logits(shape, absorbed):
    model = LingModel(SMALL, MODEL.weights, absorbed=absorbed)
    ids = torch.zeros(shape, dtype=torch.int64)
    cache = model.new_cache(shape[0])
    assert model(ids).shape == model(ids, cache=cache).shape == (*shape, SMALL.vocab_size)
    assert [x.shape for x in model.mtp(ids)] == [(*shape, SMALL.vocab_size)]
    assert cache.length == shape[1]


def test_a_call_without_tokens_changes_no_cache():
    cache, other = MODEL.new_cache(2), MODEL.new_cache(2)
    for one in (cache, other):
        MODEL(IDS[:, :4], cache=one)
    MODEL(IDS[:, :0], cache=cache)
    assert torch.equal(MODEL(IDS[:, 4:], cache=cache), MODEL(IDS[:, 4:], cache=other))


BAD_TAPS = (
    ("layers.1.attention", lambda x: x[..., :1], "has shape (2, 7, 1), but must have (2, 7, 32)"),
    ("layers.2.mlp", lambda _: 3, "has type int, but must have Tensor, or None"),
    ("layers.2.topk_idx", lambda x: x.double(), "has dtype torch.float64, but must have int32"),
    ("layers.2.topk_idx", lambda x: x[..., :1].expand_as(x), "has values an expert twice"),
    ("layers.2.topk_idx", lambda x: x + 8, "has values out of range"),
    ("layers.2.topk_weight", lambda x: x[:1], "has shape (1, 2)"),
    ("final_norm", lambda x: x[:1], "has shape (1, 7, 32)"),
    ("embeddings", lambda x: x.long(), "has dtype torch.int64, but must have a float dtype"),
    ("logits", lambda x: x.tolist(), "has type list"),
)


@pytest.mark.statement("CACHE-11")
@pytest.mark.parametrize(("name", "what", "text"), BAD_TAPS)
def test_what_a_tap_returns_is_looked_at_and_a_wrong_one_leaves_the_cache(name, what, text):
    cache = MODEL.new_cache(2)
    with pytest.raises(ContractError) as refused:
        MODEL(IDS, cache=cache, tap=returning(name, what))
    assert f"what the tap returns for {name} {text}" in str(refused.value)
    assert cache.length == 0
    assert torch.equal(MODEL(IDS, cache=cache), MODEL(IDS))


@pytest.mark.statement("MODEL-8")
def test_what_a_tap_returns_takes_the_dtype_of_what_was_there():
    got = MODEL(IDS, tap=returning("layers.1.output", lambda x: x.float()))
    want = MODEL(IDS, tap=returning("layers.1.output", lambda x: x.float().double()))
    assert torch.equal(got, want)


@pytest.mark.statement("CACHE-10")
@pytest.mark.parametrize("new", [[3, 4], [5, 6], [4, 4], [4, 6], [4, 3], [0, 1]])
def test_positions_with_a_cache_go_on_from_its_end_one_at_a_time(new):
    cache = MODEL.new_cache(2)
    MODEL(IDS[:, :4], cache=cache)
    with pytest.raises(ContractError, match=r"^positions has"):
        MODEL(IDS[:, 4:6], torch.tensor([new, new]), cache=cache)
    MODEL(IDS[:, 4:6], torch.tensor([[4, 5], [4, 5]]), cache=cache)


def test_positions_without_a_cache_are_free():
    MODEL(IDS[:, :3], torch.tensor([[9, 2, 2], [0, 7, 1]]))


def cut(cache):
    cache.layers[1] = LatentCache(cache.layers[1].rows[:, :2])


def swap(cache):
    cache.layers[0], cache.layers[1] = cache.layers[1], cache.layers[0]


def narrow(cache):
    cache.layers[0] = LightningCache(cache.layers[0].state.float())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (cut, r"cache.layers\[1\] has shape \(2, 2, 20\), but must have \(2, 4, 20\)"),
        (swap, r"cache.layers\[0\] has type LatentCache, but must have LightningCache"),
        (narrow, r"cache.layers\[0\] has dtype torch.float32, but must have torch.float64"),
        (lambda cache: cache.layers.pop(), "cache has layers 4, but must have 5"),
    ],
)
def test_a_cache_that_somebody_changed_is_refused(change, text):
    cache = MODEL.new_cache(2)
    MODEL(IDS[:, :4], cache=cache)
    change(cache)
    with pytest.raises(ContractError, match=text):
        MODEL(IDS[:, 4:], cache=cache)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"input_ids": IDS.tolist()}, "input_ids has type list, but must have Tensor"),
        ({"positions": [[0]]}, "positions has type list"),
        ({"attention_mask": [[1]]}, "attention_mask has type list"),
        ({"tap": 3}, "tap has type int, but must have a function"),
        ({"cache": {}}, "cache has type dict, but must have HybridCache, of new_cache"),
    ],
)
def test_arguments_of_other_types_are_named(arguments, text):
    assert MODEL.together([]) == []
    with pytest.raises(ContractError, match=r"^calls\[0\] has type Tensor, but must have Call"):
        MODEL.together([IDS])
    with pytest.raises(ContractError, match=f"^{text}"):
        MODEL(**{"input_ids": IDS, **arguments})
    for batch in (-1, 1.5, "2", None, True):
        with pytest.raises(ContractError, match=r"^batch has value"):
            MODEL.new_cache(batch)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"max_new_tokens": 1.5}, "max_new_tokens has value 1.5"),
        ({"max_new_tokens": "3"}, "max_new_tokens has value 3"),
        ({"temperature": "1"}, "temperature has value 1"),
        ({"temperature": 1e-320, "seed": 0}, "temperature has value 1e-320"),
        ({"temperature": 1.0}, "seed has value None"),
        ({"temperature": 1.0, "seed": 2**70}, "seed has value"),
        ({"max_new_tokens": 0, "attention_mask": torch.tensor([[1, 0, 1, 1, 1, 1, 1]] * 2)},
         "attention_mask has rows"),
        ({"attention_mask": torch.tensor([[0] * 7, [1] * 7])}, "attention_mask has rows padding"),
    ],
)  # fmt: skip
def test_generation_refuses_by_name_even_where_nothing_is_to_be_made(how, text):
    with pytest.raises(ContractError, match=f"^{text}"):
        MODEL.generate(IDS, **{"max_new_tokens": 2, **how})


@pytest.mark.statement("GEN-3")
def test_the_padding_token_is_written_though_no_embedding_has_it():
    config = dataclasses.replace(SMALL, pad_token_id=156892, eos_token_id=tuple(range(0, 96, 2)))
    model = LingModel(config, MODEL.weights)
    made = model.generate(IDS, 6)[:, 7:]
    ended = (made % 2 == 0).cumsum(1).bool() & (made != 156892)
    assert bool(ended.any())
    for row in made.tolist():
        end = next((n for n, token in enumerate(row) if token % 2 == 0), len(row))
        assert all(token == 156892 for token in row[end + 1 :])


def test_a_mask_may_be_of_booleans_or_floats():
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7])
    want = MODEL.together([Call(IDS, attention_mask=mask)])[0]
    for dtype in (torch.bool, torch.float32):
        assert torch.equal(MODEL(IDS, attention_mask=mask.to(dtype)), want)
