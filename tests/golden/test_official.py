"""The reference against traces of the released code, which are committed as goldens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lingspec.golden.full_size import STREAMS, float32_noise
from lingspec.golden.recompute import MORE
from lingspec.reference import LingModel, open_checkpoint, rounding
from lingspec.reference.cache import HybridCache, LatentCache
from lingspec.reference.layers import decoder_layer
from lingspec.reference.layers.mla_layer import expanded
from lingspec.reference.rounding import RELEASED, casting_to

OFFICIAL = Path(__file__).parents[2] / "golden" / "data" / "official"
ALIKE = 2e-5  # float32 traces are good to about 1e-6; a wrong constant shows at 1e-3 and more
# Folders whose trace is one call of the model.
ONE_CALL = (
    "base", "base_long", "heads6", "left_padded", "no_q_lora", "no_qk_norm_two_dense",
    "remainder_layers", "top1", "yarn",
)  # fmt: skip


def opened(name: str) -> tuple[LingModel, dict[str, Tensor]]:
    weights = open_checkpoint(OFFICIAL / name)
    return LingModel(weights.config, weights), load_file(OFFICIAL / name / "trace.safetensors")


def far(got: Tensor, want: Tensor) -> float:
    got, want = got.double(), want.double()
    return float((got - want).norm() / want.norm())


def assert_alike(seen: dict[str, Tensor], trace: dict[str, Tensor], rows: Tensor | None) -> None:
    """Every tensor of the trace was seen, and is the same in the rows that mean something."""
    assert seen.keys() >= trace.keys(), sorted(trace.keys() - seen.keys())
    for name, want in trace.items():
        got = seen[name].reshape(want.shape)
        if rows is not None:
            got, want = (x[rows.flatten() if x.dim() == 2 else rows] for x in (got, want))
        if name.endswith("topk_idx"):
            assert torch.equal(got.sort(-1).values, want.sort(-1).values), name
        elif name.endswith("topk_weight"):
            assert far(got.sort(-1).values, want.sort(-1).values) < ALIKE, name
        else:
            assert far(got, want) < ALIKE, name


@pytest.mark.statement("MODEL-1", "MODEL-4", "LAYER-3", "MLA-15", "ROUTE-8", "DECAY-2", "DECAY-4")
@pytest.mark.parametrize("name", ONE_CALL)
def test_every_tensor_of_a_float32_trace_comes_out(name):
    model, trace = opened(name)
    seen: dict[str, Tensor] = {}
    mask, positions = trace.pop("attention_mask", None), trace.pop("position_ids", None)
    model(trace.pop("input_ids"), positions, mask, tap=seen.__setitem__)
    assert_alike(seen, trace, None if mask is None else mask == 1)


@pytest.mark.statement("MODEL-1", "CACHE-9")
def test_prefill_decode_and_caches_come_out():
    model, trace = opened("decode")
    ids, prefill = trace["input_ids"], trace["prefill.input_ids"].shape[1]
    cache, seen = model.new_cache(len(ids)), {}
    model(ids[:, :prefill], cache=cache, tap=seen.__setitem__)
    of_prefill = {n.removeprefix("prefill."): x for n, x in trace.items() if "prefill." in n}
    of_prefill.pop("input_ids")
    assert_alike(seen, of_prefill, None)
    for n in range(ids.shape[1] - prefill):
        logits = model(ids[:, prefill + n : prefill + n + 1], cache=cache)
        assert far(logits, trace[f"decode.{n}.logits"]) < ALIKE
    config, H = model.config, model.config.num_attention_heads
    for layer, held in enumerate(cache.layers):
        keys = trace[f"cache.{layer}.keys"]
        if isinstance(held, LatentCache):
            kv_b = model.weights[f"model.layers.{layer}.attention.kv_b_proj.weight"]
            k, v = expanded(held.rows, kv_b.view(H, -1, config.kv_lora_rank), config)
            assert far(k.transpose(1, 2), keys) < ALIKE
            assert far(v.transpose(1, 2), trace[f"cache.{layer}.values"]) < ALIKE
        else:
            assert far(held.state, keys) < ALIKE


@pytest.mark.statement("MTP-8")
def test_the_mtp_layer_comes_out():
    model, trace = opened("mtp")
    seen: dict[str, Tensor] = {}
    ids = trace.pop("input_ids")
    model(ids, tap=seen.__setitem__)
    model.mtp(ids, tap=seen.__setitem__)
    assert_alike(seen, trace, None)


def forced(trace: dict[str, Tensor], seen: dict[str, Tensor]):
    def tap(name: str, x: Tensor) -> Tensor | None:
        seen[name] = x
        return trace[name] if name.endswith("topk_idx") else None

    return tap


@pytest.mark.statement("MODEL-2")
def test_bfloat16_layers_come_out_one_by_one_with_the_routing_of_the_trace():
    model, trace = opened("bf16")
    B, T = trace["input_ids"].shape
    positions = torch.arange(T).expand(B, T)
    for layer in range(model.config.num_hidden_layers):
        before = trace[f"layers.{layer - 1}.output" if layer else "embeddings"]
        with rounding(casting_to(torch.bfloat16, RELEASED)):
            got = decoder_layer(
                before, model.weights, model.config, layer=layer, positions=positions,
                tap=forced(trace, {}),
            )  # fmt: skip
        assert far(got, trace[f"layers.{layer}.output"]) < 1e-3


@pytest.mark.statement("MODEL-2")
def test_bfloat16_logits_with_the_routing_of_the_trace_come_out():
    model, trace = opened("bf16")
    with rounding(casting_to(torch.bfloat16, RELEASED)):
        logits = model(trace["input_ids"], tap=forced(trace, {}))
    assert far(logits, trace["logits"]) < 3e-2


@pytest.mark.parametrize("name", [*ONE_CALL, "bf16", "decode", "mtp"])
def test_float32_is_as_far_from_float64_as_rounding_carries(name):
    """The yardstick is float64 again, disturbed by an ulp of float32 where layers meet."""
    exact, rounded, disturbed = (run_in(name, *how) for how in HOW)
    for tensor, want in exact.items():
        got, other = rounded[tensor], disturbed[tensor]
        if tensor.endswith("topk_idx"):
            assert torch.equal(got.sort(-1).values, want.sort(-1).values), tensor
            continue
        if tensor.endswith("topk_weight"):
            got, want, other = (x.sort(-1).values for x in (got, want, other))
        assert far(got, want) <= MORE * far(other, want), tensor


HOW = ((torch.float64, False), (torch.float32, False), (torch.float64, True))


def run_in(name: str, dtype: torch.dtype, noisy: bool) -> dict[str, Tensor]:
    """Every tensor of a run on the input of a trace."""
    model, trace = opened(name)
    model = LingModel(model.config, model.weights, dtype=dtype)
    seen: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(0)

    def tap(tensor: str, x: Tensor) -> Tensor | None:
        seen[tensor] = x
        return float32_noise(x, generator) if noisy and tensor.endswith(STREAMS) else None

    ids = trace["input_ids"]
    model(ids, trace.get("position_ids"), trace.get("attention_mask"), tap=tap)
    if model.config.num_nextn_predict_layers:
        model.mtp(ids, tap=tap)
    return seen


@pytest.mark.statement("CACHE-3", "MLA-20")
@pytest.mark.parametrize("name", ONE_CALL)
def test_prefill_then_decode_is_one_shot_at_every_split_and_in_both_forms_of_mla(name):
    model, trace = opened(name)
    model = LingModel(model.config, model.weights, dtype=torch.float64)
    ids, positions = trace["input_ids"][:, :LONGEST], trace.get("position_ids")
    mask = trace.get("attention_mask")
    real = slice(None) if mask is None else mask == 1  # what comes out at padding means nothing

    def run(of: LingModel, first: int, last: int, cache: HybridCache | None = None) -> Tensor:
        own = None if positions is None else positions[:, first:last]
        seen = None if mask is None else mask[:, :last]
        return of(ids[:, first:last], own, seen, cache)

    T = ids.shape[1]
    whole = run(model, 0, T)[real]
    for cut in range(1, T):
        cache = model.new_cache(len(ids))
        parts = [run(model, 0, cut, cache), run(model, cut, T, cache)]
        assert_equal(torch.cat(parts, dim=1)[real], whole)
    assert_equal(run(LingModel(model.config, model.weights, absorbed=True), 0, T)[real], whole)


LONGEST = 24  # tokens that are cut everywhere


def assert_equal(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.statement("CACHE-5", "LAYER-8")
def test_padding_on_the_left_changes_nothing_behind_it():
    model, trace = opened("base")
    model = LingModel(model.config, model.weights, dtype=torch.float64)
    ids = trace["input_ids"][:1, :7]
    padded = torch.cat([torch.full((1, 3), 5), ids], dim=1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1]])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    got = model(padded, positions, mask)[:, 3:]
    torch.testing.assert_close(got, model(ids), rtol=1e-12, atol=1e-12)


@pytest.mark.statement("GEN-1", "GEN-2")
def test_generation_is_greedy_or_drawn_and_repeats():
    model, trace = opened("base")
    ids = trace["input_ids"][:, :5]
    greedy = model.generate(ids, 4)
    assert torch.equal(greedy[:, :5], ids)
    logits = model(greedy[:, :-1])
    live = ~torch.isin(greedy[:, 5:-1], torch.tensor([1])).any(1)
    assert bool(live.any())
    assert torch.equal(logits[live, 4:].argmax(-1), greedy[live, 5:])
    drawn = [model.generate(ids, 4, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
