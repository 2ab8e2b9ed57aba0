"""Laws of merge_attention."""

import pytest
import torch
from drawing import assert_near, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, merge_attention
from lingspec.reference.formulations.merge_attention import merge_attention_base_two


def attend(scores, v):
    return torch.softmax(scores, -1) @ v, scores.logsumexp(-1)


@pytest.mark.statement("MLA-5", "MLA-6")
@given(seed=st.integers(0, 99), cut=st.integers(1, 6), shift=st.sampled_from((0.0, 1e3, -1e3)))
def test_the_merge_of_a_split_is_the_whole(seed, cut, shift):
    scores, v = normal(3, 7, seed=seed) + shift, normal(7, 4, seed=seed + 1)
    parts = [*attend(scores[:, :cut], v[:cut]), *attend(scores[:, cut:], v[cut:])]
    for got, want in zip(merge_attention(*parts), attend(scores, v), strict=True):
        assert_near(got, want)


@given(seed=st.integers(0, 99), shift=st.sampled_from((0.0, 1e3, -1e3)))
def test_logarithms_may_come_and_go_through_base_two(seed, shift):
    o, lse = normal(2, 3, 4, seed=seed), normal(2, 3, seed=seed + 1) + shift
    lse[1, 2] = -torch.inf
    call = (o[0], lse[0], o[1], lse[1])
    for got, want in zip(merge_attention_base_two(*call), merge_attention(*call), strict=True):
        assert_near(got, want)


@pytest.mark.statement("MLA-7")
def test_no_keys_on_one_side_leave_the_other_and_on_both_give_0():
    o, lse = normal(2, 3), normal(2)
    nothing = torch.zeros_like(o), torch.full_like(lse, -torch.inf)
    for call in ((o, lse, *nothing), (*nothing, o, lse)):
        assert all(torch.equal(a, b) for a, b in zip(merge_attention(*call), (o, lse), strict=True))
    none = merge_attention(*nothing, *nothing)
    assert all(torch.equal(a, b) for a, b in zip(none, nothing, strict=True))


@pytest.mark.statement("MLA-24")
def test_a_wrong_lse_is_named():
    o, lse = torch.zeros(2, 3), torch.zeros(2)
    with pytest.raises(ContractError, match=r"lse2 has shape \(3,\), but must have \(2,\)"):
        merge_attention(o, lse, o, torch.zeros(3))
    with pytest.raises(ContractError, match=r"lse1 has dtype torch\.float64"):
        merge_attention(o, lse.double(), o, lse)
