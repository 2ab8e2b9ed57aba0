"""One contract a file, named after its op."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module

from lingspec.conformance.contract import Contract

__all__ = ["OPS", "UnknownOpError", "contract"]

OPS = (
    "rms_norm", "add_rms_norm", "gated_group_rms_norm", "rope_table", "partial_rope",
    "interleaved_rope", "qk_norm_rope", "lightning_log_decay", "lightning_attention",
    "lightning_decode", "mla_attention", "mla_decode", "merge_attention", "latent_cache_write",
    "moe_logits", "moe_route", "moe_experts", "swiglu", "fp8_quantize", "fp8_dequantize",
    "lightning_layer", "mla_layer", "moe_block", "decoder_layer", "mtp_layer", "model",
)  # fmt: skip


class UnknownOpError(ValueError):
    """No op of that name is under contract."""


@cache
def contract(op: str) -> Contract:
    """The contract of ``op``.

    Raises:
        UnknownOpError: there is none; the message names the nearest.
    """
    if op not in OPS:
        near = difflib.get_close_matches(op, OPS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownOpError(f"no op {op!r}{hint}; `lingspec ops` names all {len(OPS)}")
    module = import_module(f"lingspec.conformance.contracts.{op}")
    made: Contract = getattr(module, op.upper())
    return made
