"""What the contracts of softmax attention and its cache say holds, in the float64 reference."""

from __future__ import annotations

import pytest
import torch

from lingspec import reference
from lingspec.conformance.accuracy.formats import FORMATS
from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.contracts import contract
from lingspec.conformance.plan import draw
from lingspec.conformance.values import rng
from lingspec.reference.checks import ContractError

OPS = ("mla_attention", "mla_decode", "merge_attention", "latent_cache_write")
SPEC = {"f64": "fp64", "f32": "fp32", "bf16": "bf16-tc", "f16": "fp16-tc"}
RELATED = [(op, name) for op in OPS for name in contract(op).relations]


def computed(call):
    of = contract(call.op)
    given = {n: x.clone() for n, x in call.tensors.items()}
    made = getattr(reference, call.op)(**given, **call.params)
    made = made if isinstance(made, tuple) else ()
    return dict(zip(of.results, made, strict=True)) | {n: given[n] for n in of.mutable}


def calls(op, law, dtype="f64", count=24, seed=1):
    of = contract(op)
    return [of.make(draw(of, law, "native", dtype, seed, n)) for n in range(count)]


@pytest.mark.parametrize(("op", "name"), RELATED)
def test_a_relation_holds_in_the_float64_reference(op, name):
    relation, asked = contract(op).relations[name], 0
    for call in calls(op, relation.kind):
        other = relation.make(call, rng(7, name))
        if other is None:
            continue
        asked += 1
        assert relation.holds(computed(call), computed(other), call)
    assert asked >= 4


@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16", "f16"])
@pytest.mark.parametrize("op", [op for op in OPS if contract(op).exact])
def test_what_is_said_to_be_exact_is_exact_in_every_dtype(op, dtype):
    of, asked = contract(op), 0
    for call in calls(op, "exact", dtype):
        used = profile(SPEC[dtype])
        want, got = of.authority(call, used), computed(call)
        for name in of.exact(call, used):
            asked += 1
            assert torch.equal(got[name].double(), want[name].value.to(got[name].dtype).double())
    assert asked >= 12


@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16", "f16"])
@pytest.mark.parametrize("op", ["mla_attention", "mla_decode", "merge_attention"])
def test_every_number_of_a_call_is_finite_but_for_masses_without_a_key(op, dtype):
    for call in calls(op, "authority", dtype):
        for name, x in call.tensors.items():
            if x.is_floating_point():
                assert bool((x.isfinite() | (x == -torch.inf) * name.startswith("lse")).all())


def wrong_shapes_and_dtypes(op):
    of, call = contract(op), calls(op, "determinism", count=2)[1]
    for spec in of.inputs:
        if spec.name not in call.tensors:
            continue
        x = call.tensors[spec.name]
        other = torch.int16 if spec.dtype == "index" else torch.float32
        yield spec.name, x.to(other), call
        yield spec.name, x.unsqueeze(0), call
        yield spec.name, torch.cat([x, x], dim=0), call
        yield spec.name, torch.cat([x, x], dim=-1), call


BAD = [(op, n) for op in OPS for n, _ in enumerate(wrong_shapes_and_dtypes(op))]


@pytest.mark.parametrize(("op", "n"), BAD)
def test_a_wrong_shape_or_dtype_is_refused_by_the_name_of_an_argument(op, n):
    name, x, call = list(wrong_shapes_and_dtypes(op))[n]
    if (op, name, n % 4) in {("mla_decode", "cache", 2), ("latent_cache_write", "cache", 2),
                             ("mla_decode", "pages", 3)}:  # fmt: skip
        return  # more pages, and a wider table, are right
    if op == "mla_attention" and name == "v" and n % 4 == 3:
        return  # so are more value dims
    with pytest.raises(ContractError) as refused:
        computed(call.with_tensors(**{name: x}))
    assert str(refused.value).split(" ")[0].split("[")[0] in {s.name for s in contract(op).inputs}


VALUES = {
    "mla_decode": (("lengths", -1), ("lengths", 10**6), ("pages", -1), ("pages", 10**6)),
    "latent_cache_write": (("slots", -2), ("slots", 10**6)),
}


@pytest.mark.parametrize(("op", "name", "value"), [(o, *v) for o in VALUES for v in VALUES[o]])
def test_an_index_out_of_range_is_refused_by_its_name(op, name, value):
    for call in calls(op, "determinism", count=4)[1:]:
        x = call.tensors[name].clone()
        if name == "pages" and not int(call.tensors["lengths"][0]):
            continue
        x.view(-1)[0] = value
        with pytest.raises(ContractError, match=name):
            computed(call.with_tensors(**{name: x}))


def test_fewer_keys_than_queries_and_a_slot_given_twice_are_refused():
    call = next(c for c in calls("mla_attention", "identities") if "cu_seqlens" not in c.tensors)
    less = {n: call.tensors[n][:, :0] for n in "kv"}
    with pytest.raises(ContractError, match="k has tokens"):
        computed(call.with_tensors(**less))
    written = calls("latent_cache_write", "determinism")
    call = next(c for c in written if len(c.tensors["slots"]) > 1)
    with pytest.raises(ContractError, match="slots has values"):
        computed(call.with_tensors(slots=torch.zeros_like(call.tensors["slots"])))


@pytest.mark.parametrize("op", [op for op in OPS if contract(op).unread])
def test_what_is_said_to_be_unread_changes_no_bit(op):
    seen = 0
    for call in calls(op, "unread", "f32"):
        other = {}
        for name, mask in contract(op).unread(call).items():
            x = call.tensors[name]
            seen += int(mask.sum())
            fill = torch.full_like(x, 7.5) if x.is_floating_point() else torch.full_like(x, -9)
            other[name] = torch.where(mask, fill, x)
        before, after = computed(call), computed(call.with_tensors(**other))
        assert all(torch.equal(before[n], after[n]) for n in before)
    assert seen > 100


def test_every_row_of_the_cache_that_is_said_to_be_read_is_read():
    for call in calls("mla_decode", "unread", "f64", count=6):
        free = contract("mla_decode").unread(call)["cache"]
        poisoned = torch.where(free, call.tensors["cache"], torch.nan)
        after = computed(call.with_tensors(cache=poisoned))["o_latent"]
        live = call.tensors["lengths"] > 0
        assert bool(after[live].isnan().all())


def test_shares_rounded_to_bfloat16_are_rejected():
    of, used, rejected = contract("merge_attention"), profile("fp32"), 0
    for call in calls("merge_attention", "authority", "bf16"):
        want = of.authority(call, used)["o"]
        t = {n: x.double() for n, x in call.tensors.items()}
        lse = torch.logaddexp(t["lse1"], t["lse2"])
        lse = lse.masked_fill(lse == -torch.inf, 0.0)
        a, b = (FORMATS["bf16"].cast((t[n] - lse).exp())[..., None] for n in ("lse1", "lse2"))
        got = (a * t["o1"] + b * t["o2"]).to(torch.bfloat16)
        rejected += want.problem(got, torch.bfloat16) is not None
    assert rejected >= 8


@pytest.mark.parametrize("op", ["mla_attention", "mla_decode"])
def test_a_softmax_in_eager_bfloat16_is_rejected_as_anything_finer(op):
    of, used, rejected = contract(op), profile("bf16-tc"), 0
    for call in calls(op, "authority", "bf16", count=16):
        want = of.authority(call, used)
        if not all(e.finite() for e in want.values()):
            continue
        for made in of.variants(call, profile("bf16-eager"))[:1]:
            rejected += any(w.problem(made[n], made[n].dtype) for n, w in want.items())
    assert rejected >= 8


def test_a_nan_keeps_its_payload():
    call = next(c for c in calls("latent_cache_write", "authority", "f32")
                if c.tensors["latent"].isnan().any())  # fmt: skip
    want = contract("latent_cache_write").authority(call, profile("fp32"))["cache"]
    got = computed(call)["cache"]
    assert want.problem(got, torch.float32) is None
    quiet = torch.where(got.isnan(), torch.nan, got)
    assert "other bits" in want.problem(quiet, torch.float32).text
