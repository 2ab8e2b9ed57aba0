"""Laws of mla_attention."""

import pytest
import torch
from drawing import FLOATS, assert_near, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, merge_attention, mla_attention
from lingspec.reference.formulations.mla_attention import mla_attention_folded


def draw(B=2, T=5, S=5, H=3, K=4, V=3, seed=0, dtype=torch.float64):
    shapes = ((B, T, H, K), (B, S, H, K), (B, S, H, V))
    q, k, v = (normal(*s, seed=seed + n, dtype=dtype) for n, s in enumerate(shapes))
    return {"q": q, "k": k, "v": v, "scale": 0.7}


@pytest.mark.statement("MLA-1", "MLA-2")
@given(T=st.integers(1, 5), more=st.integers(0, 4), seed=st.integers(0, 99))
def test_the_last_query_sees_all_keys_and_each_before_it_one_less(T, more, seed):
    call = draw(T=T, S=T + more, seed=seed)
    o, lse = mla_attention(**call)
    for t in range(T):
        seen = more + t + 1
        scores = 0.7 * torch.einsum("bhk,bshk->bhs", call["q"][:, t], call["k"][:, :seen])
        want = torch.einsum("bhs,bshv->bhv", scores.softmax(-1), call["v"][:, :seen])
        assert_near(o[:, t], want)
        assert_near(lse[:, t], scores.logsumexp(-1))


@pytest.mark.statement("MLA-4")
@given(
    lengths=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=4),
    seed=st.integers(0, 99),
)
def test_packed_sequences_are_the_sequences_one_by_one(lengths, seed):
    ends = [0]
    ends_k = [0]
    for T, more in lengths:
        ends.append(ends[-1] + T)
        ends_k.append(ends_k[-1] + T + more)
    call = draw(B=1, T=ends[-1], S=ends_k[-1], seed=seed)
    o, lse = mla_attention(**call, cu_seqlens=torch.tensor(ends), cu_seqlens_k=torch.tensor(ends_k))
    assert o.shape == (1, ends[-1], 3, 3)
    for a, b, c, d in zip(ends, ends[1:], ends_k, ends_k[1:], strict=False):
        one = {"q": call["q"][:, a:b], "k": call["k"][:, c:d], "v": call["v"][:, c:d]}
        o_n, lse_n = mla_attention(**one, scale=0.7)
        assert torch.equal(o[:, a:b], o_n)
        assert torch.equal(lse[:, a:b], lse_n)


@given(T=st.integers(0, 4), more=st.integers(0, 3), seed=st.integers(0, 99))
def test_the_scale_may_be_in_the_query(T, more, seed):
    call = draw(T=T, S=T + more, seed=seed)
    ends = {"cu_seqlens": torch.tensor([0, T]), "cu_seqlens_k": torch.tensor([0, T + more])}
    for more_said, B in (({}, 2), (ends, 1)):
        given = call | {n: call[n][:B] for n in "qkv"} | more_said
        for got, want in zip(mla_attention_folded(**given), mla_attention(**given), strict=True):
            assert_near(got, want)


@pytest.mark.statement("MLA-6")
@given(cut=st.integers(1, 5), seed=st.integers(0, 99))
def test_the_merge_of_two_parts_of_the_keys_is_the_whole(cut, seed):
    call = draw(T=1, S=6, seed=seed)
    parts = []
    for part in (slice(0, cut), slice(cut, 6)):
        parts += mla_attention(**{**call, "k": call["k"][:, part], "v": call["v"][:, part]})
    for got, want in zip(merge_attention(*parts), mla_attention(**call), strict=True):
        assert_near(got, want)


@pytest.mark.statement("MLA-5")
def test_scores_may_be_shifted_by_hundreds():
    call = draw()
    call["q"], call["k"] = call["q"] * 100, call["k"] * 100
    o, lse = mla_attention(**call)
    assert bool(o.isfinite().all() and lse.isfinite().all())


@pytest.mark.statement("MLA-2", "MLA-3")
@pytest.mark.parametrize("dtype", FLOATS)
def test_weights_are_rounded_before_the_values(dtype):
    call = draw(B=1, T=9, S=9, dtype=dtype)
    o, lse = mla_attention(**call)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    q, k, v = (call[n].to(wide).transpose(1, 2) for n in "qkv")
    scores = 0.7 * (q @ k.mT)
    scores = scores.masked_fill(torch.ones(9, 9).triu(1) == 1, -torch.inf)
    weights = (scores - scores.logsumexp(-1, keepdim=True)).exp()
    assert (o.dtype, lse.dtype) == (dtype, wide)
    assert_near(lse, scores.logsumexp(-1).transpose(1, 2), 4 * torch.finfo(wide).eps)
    assert torch.equal(o, (weights.to(dtype).to(wide) @ v).to(dtype).transpose(1, 2))
    if dtype.itemsize == 2:
        assert not torch.equal(o, (weights @ v).to(dtype).transpose(1, 2))


@pytest.mark.statement("MLA-24")
@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("q", lambda x: torch.cat([x, x], 1), "k has tokens 5, but must have at least 10, as q"),
        ("v", lambda x: x[:, :4], r"v has shape \(2, 4, 3, 3\)"),
        ("k", lambda x: x.float(), "k has dtype torch.float32"),
    ],
)
def test_a_wrong_argument_is_named(name, change, text):
    call = draw()
    call[name] = change(call[name])
    with pytest.raises(ContractError, match=text):
        mla_attention(**call)
