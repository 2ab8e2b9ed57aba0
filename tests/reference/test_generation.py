"""Laws of generation."""

import dataclasses

import pytest
import torch
from small import SMALL, small, weights

from lingspec.reference import ContractError, LingModel

IDS = torch.tensor([[5, 9, 7, 3], [8, 2, 2, 90]])


@pytest.fixture(scope="module")
def model():
    return LingModel(*small(eos_token_id=None))


def ending_with(token):
    config = dataclasses.replace(SMALL, eos_token_id=token, pad_token_id=77)
    return LingModel(config, weights(), dtype=torch.float64)


@pytest.mark.statement("GEN-1", "GEN-5")
def test_every_token_is_the_most_likely_one_of_all_before_it(model):
    made = model.generate(IDS, 6)
    assert made.shape == (2, 10)
    assert torch.equal(made[:, :4], IDS)
    for t in range(4, 10):
        assert torch.equal(model(made[:, :t])[:, -1].argmax(-1), made[:, t])
    assert torch.equal(model.generate(IDS, 0), IDS)


@pytest.mark.statement("GEN-1")
def test_of_equal_logits_the_first_token_is_taken():
    config, w = small(eos_token_id=None)
    w["lm_head.weight"].zero_()
    assert torch.equal(LingModel(config, w).generate(IDS, 2)[:, 4:], torch.zeros(2, 2).long())


@pytest.mark.statement("GEN-2")
def test_draws_follow_the_softmax_of_logits_over_temperature(model):
    ids = IDS[:1].expand(400, 4)
    drawn = model.generate(ids, 1, temperature=3.0, seed=1)[:, 4]
    chances = torch.softmax(model(IDS[:1])[0, -1] / 3.0, dim=-1)
    seen = torch.bincount(drawn, minlength=96) / 400
    top = chances.topk(3).indices
    room = 5 * (chances[top] / 400).sqrt()  # five standard deviations
    assert bool(((seen[top] - chances[top]).abs() < room).all())
    assert torch.equal(model.generate(ids, 1, temperature=3.0, seed=1)[:, 4], drawn)
    assert not torch.equal(model.generate(ids, 1, temperature=3.0, seed=2)[:, 4], drawn)
    assert torch.equal(model.generate(IDS, 4, temperature=1e-4, seed=1), model.generate(IDS, 4))


@pytest.mark.statement("GEN-3")
def test_behind_an_end_stands_padding_and_all_ends_stop(model):
    free = model.generate(IDS, 6)[:, 4:]
    end = next(t for t in free[0].tolist() if t not in free[1].tolist())
    at = free[0].tolist().index(end)
    row = ending_with(end).generate(IDS, 6)[0, 4:].tolist()
    assert row == free[0, : at + 1].tolist() + [77] * (5 - at)
    alone = ending_with((end, 95)).generate(IDS[:1], 6)
    assert alone.shape == (1, 4 + at + 1)


@pytest.mark.statement("GEN-4")
def test_a_padded_prompt_goes_on_as_it_does_alone(model):
    padded = torch.cat([torch.tensor([[11, 12]]), IDS[:1]], dim=1)
    both = torch.cat([padded, torch.cat([IDS[1:], IDS[1:, :2]], dim=1)])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    made = model.generate(both, 5, attention_mask=mask)
    assert torch.equal(made[0, 2:], model.generate(IDS[:1], 5)[0])
    assert torch.equal(made[1], model.generate(both[1:], 5)[0])


@pytest.mark.statement("GEN-4")
def test_positions_count_from_the_first_token_that_is_not_padding():
    seen = []

    class Recording(LingModel):
        def __call__(self, input_ids, positions=None, *rest, **options):
            seen.append(positions.tolist())
            return super().__call__(input_ids, positions, *rest, **options)

    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    Recording(*small(eos_token_id=None)).generate(IDS, 2, attention_mask=mask)
    assert seen == [[[0, 0, 0, 1], [0, 1, 2, 3]], [[2], [4]]]


@pytest.mark.statement("GEN-6")
@pytest.mark.parametrize(
    ("call", "text"),
    [
        ({"input_ids": IDS[:, :0]}, r"input_ids has shape \(2, 0\)"),
        ({"max_new_tokens": -1}, "max_new_tokens has value -1"),
        ({"temperature": -1.0}, "temperature has value -1.0"),
        ({"temperature": 1.0}, "seed has value None, but must have an integer where temperature"),
    ],
)
def test_a_wrong_argument_is_named(model, call, text):
    with pytest.raises(ContractError, match=text):
        model.generate(**{"input_ids": IDS, "max_new_tokens": 1, **call})
