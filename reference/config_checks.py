"""What must hold of a configuration."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lingspec.reference.ops.rope_table import YARN_KEYS

if TYPE_CHECKING:
    from lingspec.reference.config import LingConfig

__all__ = ["ConfigError", "check", "need"]

DTYPES = ("bfloat16", "float16", "float32", "float64")
MOST_LAYERS = 10_000
MAY_BE_0 = ("mscale", "mscale_all_dim")  # which is as if they were not there
BEFORE = "original_max_position_embeddings"  # of YaRN


class ConfigError(ValueError):
    """A configuration that is not one of Ling 2.5, or that contradicts itself."""


def check(c: LingConfig) -> None:
    """Refuse what contradicts itself; fill in what YaRN takes from elsewhere.

    Raises:
        ConfigError: a field is of another type, out of range, or at odds with another.
    """
    for field in dataclasses.fields(c):
        _check_type(field.name, getattr(c, field.name), str(field.type))
    at_least = {
        "vocab_size": 1, "hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": 2,
        "num_attention_heads": 1, "head_dim": 2, "layer_group_size": 1, "group_norm_size": 1,
        "kv_lora_rank": 1, "qk_nope_head_dim": 1, "qk_rope_head_dim": 2, "v_head_dim": 1,
        "num_experts": 2, "num_experts_per_tok": 1, "num_shared_experts": 0, "n_group": 1,
        "topk_group": 1, "moe_intermediate_size": 1, "first_k_dense_replace": 0,
        "num_nextn_predict_layers": 0, "max_position_embeddings": 1,
    }  # fmt: skip
    for name, least in at_least.items():
        need(getattr(c, name) >= least, name, getattr(c, name), f"at least {least}")
    _check_numbers(c)
    H = c.num_attention_heads
    need(c.num_key_value_heads == H, "num_key_value_heads", c.num_key_value_heads,
          f"{H}, as num_attention_heads: every head has keys and values of its own")  # fmt: skip
    R = c.rotary_dim
    need(c.qk_rope_head_dim == R and R % 2 == 0, "qk_rope_head_dim", c.qk_rope_head_dim,
          f"{R}, head_dim * partial_rotary_factor, and even")  # fmt: skip
    width = H * c.head_dim
    need(width % c.group_norm_size == 0, "group_norm_size", c.group_norm_size,
          f"a divisor of {width}: it is the number of groups")  # fmt: skip
    groups = c.num_experts / c.n_group
    need(groups == int(groups) and groups >= 2, "n_group", c.n_group,
          f"a divisor of {c.num_experts} that leaves 2 experts in a group")  # fmt: skip
    need(c.topk_group <= c.n_group, "topk_group", c.topk_group, f"at most {c.n_group}, n_group")
    most = c.topk_group * int(groups)
    need(c.num_experts_per_tok <= most, "num_experts_per_tok", c.num_experts_per_tok,
          f"at most {most}, the experts of topk_group groups")  # fmt: skip
    need(c.first_k_dense_replace <= c.num_hidden_layers, "first_k_dense_replace",
          c.first_k_dense_replace, f"at most {c.num_hidden_layers}, num_hidden_layers")  # fmt: skip
    need(c.decay_layer_origin in (0, 1), "decay_layer_origin", c.decay_layer_origin, "0 or 1")
    need(c.rms_norm_eps > 0, "rms_norm_eps", c.rms_norm_eps, "above 0")
    need(c.rope_theta > 1, "rope_theta", c.rope_theta, "above 1")
    if c.rope_scaling is not None:
        object.__setattr__(c, "rope_scaling", _yarn(c))
    if isinstance(c.eos_token_id, list | tuple):
        object.__setattr__(c, "eos_token_id", tuple(c.eos_token_id))


def _check_numbers(c: LingConfig) -> None:
    need(c.num_hidden_layers <= MOST_LAYERS, "num_hidden_layers", c.num_hidden_layers,
          f"at most {MOST_LAYERS}")  # fmt: skip
    rank = c.q_lora_rank
    need(rank is None or rank >= 1, "q_lora_rank", rank, "at least 1, or null")
    for name in ("rms_norm_eps", "rope_theta", "routed_scaling_factor"):
        value = getattr(c, name)
        need(math.isfinite(value) and value > 0, name, value, "a finite number above 0")
    part = c.partial_rotary_factor
    need(0 < part <= 1, "partial_rotary_factor", part, "above 0 and at most 1")
    need(c.dtype in DTYPES, "dtype", c.dtype, f"one of {', '.join(DTYPES)}")
    ends = c.eos_token_id if isinstance(c.eos_token_id, list | tuple) else (c.eos_token_id,)
    for name, ids in (("eos_token_id", ends), ("pad_token_id", (c.pad_token_id,))):
        ok = all(i is None or (type(i) is int and i >= 0) for i in ids)
        need(ok, name, getattr(c, name), "integers >= 0")


def _yarn(c: LingConfig) -> Mapping[str, Any]:
    scaling = dict(c.rope_scaling or {})
    kind = scaling.get("rope_type", scaling.get("type"))
    need(kind == "yarn", "rope_scaling.rope_type", kind, "yarn")
    unknown = sorted(set(scaling) - YARN_KEYS)
    need(not unknown, "rope_scaling", unknown, f"only {', '.join(sorted(YARN_KEYS))}")
    for name, own in (
        ("rope_theta", c.rope_theta), ("partial_rotary_factor", c.partial_rotary_factor),
    ):  # fmt: skip
        need(scaling.get(name, own) == own, f"rope_scaling.{name}", scaling.get(name), f"{own}")
    factor: Any = scaling.get("factor")
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    ok = number and math.isfinite(factor) and factor >= 1
    need(ok, "rope_scaling.factor", factor, "a number >= 1")
    if scaling.get(BEFORE) is None:
        scaling[BEFORE] = c.max_position_embeddings
    for name, value in scaling.items():
        if name in ("rope_type", "type", "rope_theta", "partial_rotary_factor"):
            continue
        if name == "truncate":
            need(isinstance(value, bool), f"rope_scaling.{name}", value, "true or false")
        elif value is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            least = 0.0 if name in MAY_BE_0 else math.ulp(0.0)
            ok = number and math.isfinite(value) and value >= least
            need(ok, f"rope_scaling.{name}", value, "a finite number above 0")
    return scaling


def _check_type(name: str, value: Any, declared: str) -> None:
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,), "float": (int, float), "bool": (bool,), "str": (str,),
        "tuple[int, ...]": (list, tuple), "Mapping[str, Any]": (Mapping,), "None": (type(None),),
    }  # fmt: skip
    allowed = tuple(kind for part in declared.split(" | ") for kind in kinds[part])
    ok = isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
    need(ok, name, value, declared)


def need(ok: bool, name: str, value: object, expected: str) -> None:
    """Refuse a field, with what it is and what it must be."""
    if not ok:
        raise ConfigError(f"{name} is {value!r}, but must be {expected}")
