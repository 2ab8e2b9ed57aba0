"""What a Ling 2.5 model is made of, from a released `config.json` or a preset."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingspec.reference.config_checks import ConfigError, check, need
from lingspec.reference.ops.rope_table import mscale
from lingspec.reference.presets import PRESETS

__all__ = ["PRESETS", "ConfigError", "LingConfig"]

ARCHITECTURE = "BailingMoeV2_5ForCausalLM"


@dataclass(frozen=True)
class LingConfig:
    """All that the released code reads from a configuration, under its names.

    Defaults are those of the released configuration class (inclusionAI/Ling-V2.5 @79c5ec5,
    configuration_bailing_moe_v2_5.py), which hold where a `config.json` is silent.
    """

    vocab_size: int = 157184
    hidden_size: int = 2048  # D
    intermediate_size: int = 5120  # hidden channels of a dense MLP
    num_hidden_layers: int = 20
    num_attention_heads: int = 16  # H, of both attentions
    num_key_value_heads: int = 4  # read by nobody here; the released code needs it equal to H
    head_dim: int = 128  # K = V of the Lightning layers
    # Lightning layers
    layer_group_size: int = 5  # see `is_mla`
    group_norm_size: int = 4  # the *number* of groups of the norm behind Lightning attention
    use_qk_norm: bool = True
    partial_rotary_factor: float = 0.5  # of head_dim
    decay_layer_origin: int = 1  # see `lightning_log_decay`; in no config.json
    # MLA layers
    q_lora_rank: int | None = None
    kv_lora_rank: int = 512  # L
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64  # R; must be head_dim * partial_rotary_factor: one table serves all
    v_head_dim: int = 128
    # experts
    num_experts: int = 256  # E
    num_experts_per_tok: int = 8  # k
    num_shared_experts: int = 1
    n_group: int = 8
    topk_group: int = 4
    moe_intermediate_size: int = 512  # I
    first_k_dense_replace: int = 1  # layers before this have a dense MLP
    routed_scaling_factor: float = 1.0
    # the rest
    rope_theta: float = 600000.0
    rope_scaling: Mapping[str, Any] | None = None
    max_position_embeddings: int = 32768  # the context of YaRN where its mapping names none
    rms_norm_eps: float = 1e-6  # of all norms but the two of MLA's latents, which have 1e-6
    use_bias: bool = False  # of the projection behind Lightning attention
    use_qkv_bias: bool = False  # of the projections before attention, and of that behind MLA
    tie_word_embeddings: bool = False
    num_nextn_predict_layers: int = 0
    pad_token_id: int | None = 156892
    eos_token_id: int | tuple[int, ...] | None = 156892
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        check(self)

    # -- derived ---------------------------------------------------------------------------------

    @property
    def rotary_dim(self) -> int:
        """R, of both attentions."""
        return int(self.head_dim * self.partial_rotary_factor)

    @property
    def mla_scale(self) -> float:
        """The factor of scores: (nope + rope)^-0.5, with YaRN times mscale(mscale_all_dim)^2."""
        scale: float = (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5
        if self.rope_scaling and (weight := self.rope_scaling.get("mscale_all_dim")):
            scale *= mscale(self.rope_scaling["factor"], weight) ** 2
        return scale

    def is_mla(self, layer: int) -> bool:
        """Whether a layer has MLA; the others have Lightning attention.

        The last of every group, the layers behind the last whole group, and MTP layers.
        """
        group = self.layer_group_size
        whole = self.num_hidden_layers // group * group
        return (layer + 1) % group == 0 or layer >= whole

    def is_moe(self, layer: int) -> bool:
        """Whether a layer has experts; the others have a dense MLP."""
        return layer >= self.first_k_dense_replace

    # -- where it comes from ---------------------------------------------------------------------

    @classmethod
    def preset(cls, name: str) -> LingConfig:
        """A released model: one of `PRESETS`.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in PRESETS:
            raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
        return cls(**PRESETS[name])

    @classmethod
    def from_json(cls, path: str | Path) -> LingConfig:
        """What a `config.json` says.

        Raises:
            ConfigError: the file is not JSON, another model's, has a key that is not known, or
                contradicts itself.
        """
        file = Path(path)
        try:
            told = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_once)
        except (OSError, ValueError, RecursionError) as broken:
            raise ConfigError(f"{file} cannot be read: {broken}") from broken
        if not isinstance(told, dict):
            raise ConfigError(f"{file} holds {type(told).__name__}, but must hold an object")
        return cls.from_dict(told)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> LingConfig:
        """What the keys of a `config.json` say.

        Raises:
            ConfigError: as `from_json`.
        """
        _is_ling(told)
        names = {f.name for f in dataclasses.fields(cls)}
        given = {RENAMED.get(key, key): value for key, value in told.items()}
        for old, new in RENAMED.items():
            both = told.get(new, told.get(old))
            need(told.get(old, both) == both, new, both, f"{told.get(old)!r}, as {old}")
        if given.get("head_dim", 0) is None:  # as released
            width, heads = (given.get(n, getattr(cls, n)) for n in WIDTHS)
            ok = isinstance(width, int) and isinstance(heads, int) and heads > 0
            need(ok, WIDTHS[1], heads, "an integer, as hidden_size, where head_dim is null")
            given["head_dim"] = width // heads
        if given.get("num_shared_experts", 0) is None:
            given["num_shared_experts"] = 0
        unknown = sorted(set(given) - names - set(IGNORED) - set(MUST_BE) - {SUM})
        if unknown:
            raise ConfigError(f"unknown key {unknown[0]!r} = {given[unknown[0]]!r}")
        for key, wanted in MUST_BE.items():
            if key in given and given[key] != wanted:
                raise ConfigError(f"{key} is {given[key]!r}, but must be {wanted!r}")
        config = cls(**{key: value for key, value in given.items() if key in names})
        both = config.qk_nope_head_dim + config.qk_rope_head_dim
        need(given.get(SUM, both) == both, SUM, given.get(SUM), f"{both}, qk_nope + qk_rope")
        return config

    def to_dict(self) -> dict[str, Any]:
        """The keys of a `config.json` that says the same.

        The layer origin, which is in no released file, is left out where it is the released one.
        """
        told = dataclasses.asdict(self)
        if self.decay_layer_origin == 1:
            del told["decay_layer_origin"]
        told["torch_dtype"] = told.pop("dtype")
        return {"architectures": [ARCHITECTURE], "model_type": "bailing_hybrid", **told, **MUST_BE}


# Keys with one possible value in Ling 2.5.
MUST_BE = {
    "hidden_act": "silu", "rope_interleave": True, "score_function": "sigmoid",
    "scoring_func": "sigmoid", "topk_method": "noaux_tc", "router_dtype": "fp32",
    "moe_router_enable_expert_bias": True,
    "linear_silu": False, "attention_dropout": 0.0, "embedding_dropout": 0.0,
    "output_dropout": 0.0, "norm_topk_prob": True, "sliding_window": None,
    "use_sliding_window": False,
}  # fmt: skip
# Keys that the released code does not read, or that say nothing of what is computed.
IGNORED = (
    "architectures", "model_type", "auto_map", "transformers_version", "use_cache",
    "initializer_range",
    "moe_shared_expert_intermediate_size", "mtp_loss_scaling_factor", "output_router_logits",
    "max_window_layers", "quantization_config", "attn_implementation", "_attn_implementation",
    "_name_or_path", "bos_token_id", "chunk_size_feed_forward", "return_dict", "use_rmsnorm",
    "num_mtp_layers", "seq_aux",
)  # fmt: skip
RENAMED = {"torch_dtype": "dtype"}
WIDTHS = ("hidden_size", "num_attention_heads")
SUM = "qk_head_dim"  # what a saved configuration says once more


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, no key of which stands there twice."""
    told = dict(pairs)
    if len(told) < len(pairs):
        twice = next(key for n, (key, _) in enumerate(pairs) if key in dict(pairs[:n]))
        raise ConfigError(f"key {twice!r} stands there twice")
    return told


def _is_ling(told: Mapping[str, Any]) -> None:
    if not isinstance(told, Mapping):
        raise ConfigError(f"a configuration is {type(told).__name__}, but must be a mapping")
    named = told.get("architectures") or []
    if not isinstance(named, list | tuple):
        raise ConfigError(f"architectures is {named!r}, but must be a list")
    kda = any(str(key).startswith("kda_") or "_kda" in str(key) for key in told)
    if kda or any(str(a).startswith("BailingMoeV3") for a in named):
        raise ConfigError("this is Ling 3.0 (BailingMoeV3, KDA layers), not Ling 2.5")
    kind = told.get("model_type")
    if kind not in (None, "bailing_hybrid", "bailing_moe_linear", "bailing_moe_v2_5"):
        raise ConfigError(f"model_type is {kind!r}, but must be 'bailing_hybrid'")
    if ARCHITECTURE not in named:
        raise ConfigError(f"architectures is {named or 'missing'}, but must hold {ARCHITECTURE!r}")
