"""Laws of latent_cache_write."""

import pytest
import torch
from drawing import normal

from lingspec.reference import ContractError, latent_cache_write


@pytest.mark.statement("MLA-11")
def test_rows_are_written_where_slots_say_and_nothing_else_is():
    cache = torch.full((3, 4, 7), float("nan"), dtype=torch.float64)
    latent, rope = normal(3, 5), normal(3, 2, seed=1)
    latent_cache_write(latent, rope, cache, torch.tensor([9, -1, 0]))
    flat = cache.view(12, 7)
    assert torch.equal(flat[9], torch.cat([latent[0], rope[0]]))
    assert torch.equal(flat[0], torch.cat([latent[2], rope[2]]))
    assert bool(flat[[n for n in range(12) if n not in (0, 9)]].isnan().all())


@pytest.mark.statement("MLA-11")
def test_a_strided_cache_is_written_in_place():
    whole = torch.zeros(2, 4, 14)
    latent_cache_write(torch.ones(1, 5), torch.ones(1, 2), whole[..., 7:], torch.tensor([5]))
    assert whole.sum() == 7
    assert whole[1, 1, 7:].sum() == 7


@pytest.mark.statement("MLA-24")
@pytest.mark.parametrize("slots", [[1, 1], [0, 12], [-2, 0]])
def test_slots_that_repeat_or_do_not_exist_are_refused(slots):
    cache = torch.zeros(3, 4, 7)
    with pytest.raises(ContractError, match="-1, or distinct slots below 12"):
        latent_cache_write(torch.zeros(2, 5), torch.zeros(2, 2), cache, torch.tensor(slots))
