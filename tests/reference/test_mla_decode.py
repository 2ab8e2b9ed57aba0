"""Laws of mla_decode."""

import pytest
import torch
from drawing import assert_near, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, mla_attention, mla_decode
from lingspec.reference.formulations.mla_decode import mla_decode_folded


def draw(lengths=(5, 0, 3), H=2, L=4, R=2, page=2, P=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    B, M = len(lengths), 4
    pages = torch.randperm(P, generator=g)[: min(P, B * M)].repeat(2)[: B * M].view(B, M)
    return {
        "q_latent": normal(B, H, L, seed=seed),
        "q_rope": normal(B, H, R, seed=seed + 1),
        "cache": normal(P, page, L + R, seed=seed + 2),
        "pages": pages,
        "lengths": torch.tensor(lengths),
        "scale": 0.7,
    }


@pytest.mark.statement("MLA-8", "MLA-10")
@given(lengths=st.lists(st.integers(0, 8), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_it_is_attention_over_the_rows_of_the_pages(lengths, seed):
    call = draw(lengths, seed=seed)
    o, lse = mla_decode(**call)
    for b, length in enumerate(lengths):
        rows = call["cache"][call["pages"][b]].flatten(0, 1)[:length]
        k = rows[None, :, None].expand(1, length, 2, 6)
        q = torch.cat([call["q_latent"][b], call["q_rope"][b]], dim=-1)[None, None]
        if not length:
            assert torch.equal(o[b], torch.zeros(2, 4, dtype=torch.float64))
            assert torch.equal(lse[b], torch.full((2,), -torch.inf, dtype=torch.float64))
            continue
        want, want_lse = mla_attention(q, k, k[..., :4], scale=0.7)
        assert_near(o[b], want[0, 0])
        assert_near(lse[b], want_lse[0, 0])


@given(lengths=st.lists(st.integers(0, 8), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_the_scale_may_be_in_the_query(lengths, seed):
    call = draw(lengths, seed=seed)
    for got, want in zip(mla_decode_folded(**call), mla_decode(**call), strict=True):
        assert_near(got, want)


@pytest.mark.statement("MLA-9")
def test_nothing_behind_the_length_is_read():
    call = draw((5, 3))
    want = mla_decode(**call)
    call["pages"] = call["pages"].clone()
    call["pages"][0, 3:], call["pages"][1, 2:] = 1 << 20, -7
    call["cache"][call["pages"][0, 2], 1] = float("nan")
    call["cache"][call["pages"][1, 1], 1] = float("nan")
    for got, was in zip(mla_decode(**call), want, strict=True):
        assert torch.equal(got, was)


@pytest.mark.statement("MLA-24")
def test_a_page_that_does_not_exist_and_a_length_too_long_are_refused():
    call = draw((5,))
    with pytest.raises(ContractError, match=r"lengths\[0\] has value 9, but must have from 0 to 8"):
        mla_decode(**{**call, "lengths": torch.tensor([9])})
    with pytest.raises(ContractError, match=r"pages\[0\] has values"):
        mla_decode(**{**call, "pages": call["pages"] + 9})
