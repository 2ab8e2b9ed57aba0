"""The whole model against mlx-lm, an independent implementation in another framework.

Both are float32 runs of the same synthetic weights; the judge is the reference in float64. mlx-lm
counts the layers of the decay from 0.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small import SMALL

from lingspec.reference import LingConfig, LingModel
from lingspec.reference.synthetic import Synthetic

mx = pytest.importorskip("mlx.core", reason="the extra 'mlx' is not installed")
bailing = pytest.importorskip("mlx_lm.models.bailing_hybrid", reason="mlx-lm has no Ling 2.5")

BASE = dataclasses.replace(SMALL, decay_layer_origin=0, num_nextn_predict_layers=0)
YARN = {
    "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024,
    "mscale_all_dim": 1.0, "mscale": 1.0,
}  # fmt: skip
CONFIGS = {
    "as it is": {},
    "no compressed queries": {"q_lora_rank": None},
    "no norm of queries and keys": {"use_qk_norm": False},
    "six heads": {"num_attention_heads": 6, "num_key_value_heads": 6},
    "groups of three": {"layer_group_size": 3},
    "all layers dense": {"first_k_dense_replace": 5},
    "one expert": {"num_experts_per_tok": 1},
    "yarn": {"rope_scaling": YARN},
}
# Two float32 runs round as often; in another order an error of 1 to 1.1 times ours was seen.
MORE = 4
T, CUT = 150, 141  # more than one of mlx-lm's chunks of 128; the rest is decoded token by token


def theirs(config: LingConfig, ids: np.ndarray, monkeypatch) -> list[np.ndarray]:
    """Outputs of every layer, then logits, of all tokens."""
    told = dataclasses.asdict(config) | {"model_type": "bailing_hybrid"}
    model = bailing.Model(bailing.ModelArgs.from_dict(told))
    weights = Synthetic(config, 0, torch.float32)
    given = model.sanitize({name: mx.array(x.numpy()) for name, x in weights.items()})
    model.load_weights(list(given.items()))
    seen: list[list] = []
    inner = bailing.DecoderLayer.__call__

    def recording(self, *args, **options):
        y = inner(self, *args, **options)
        seen[-1].append(np.array(y))
        return y

    monkeypatch.setattr(bailing.DecoderLayer, "__call__", recording)
    cache = model.make_cache()
    for part in (ids[:, :CUT], *(ids[:, t : t + 1] for t in range(CUT, T))):
        seen.append([])
        seen[-1].append(np.array(model(mx.array(part), cache=cache)))
    by_layer = zip(*seen, strict=True)
    return [np.concatenate(parts, axis=1) for parts in by_layer]


def ours(config: LingConfig, ids: np.ndarray, dtype: torch.dtype) -> list[np.ndarray]:
    weights = Synthetic(config, 0, torch.float32)
    seen: list[np.ndarray] = []

    def tap(name, x):
        if name.endswith(".output") or name == "logits":
            seen.append(x.double().numpy())

    LingModel(config, weights, dtype=dtype)(torch.from_numpy(ids), tap=tap)
    return seen


def far(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.mark.statement("MODEL-12")
@pytest.mark.parametrize("name", CONFIGS)
def test_prefill_and_decode_agree_layer_by_layer(name, monkeypatch):
    config = dataclasses.replace(BASE, **CONFIGS[name])
    ids = np.random.default_rng(1).integers(0, config.vocab_size, (2, T))
    exact, mine = ours(config, ids, torch.float64), ours(config, ids, torch.float32)
    for layer, (got, own, want) in enumerate(
        zip(theirs(config, ids, monkeypatch), mine, exact, strict=True)
    ):
        room = MORE * max(far(own, want), 2.0**-24)
        assert far(got, want) <= room, f"layer {layer}: {far(got, want):.3g}, allowed {room:.3g}"
