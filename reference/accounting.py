"""Sizes of a model: parameters, bytes of its caches, arithmetic for each token.

Letters: D hidden size, H heads, K = V head dim of Lightning, L latent rank, N nope dims, R rotary
dims, S tokens of context.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from lingspec.reference.config import LingConfig
from lingspec.reference.layout import tensors

__all__ = ["GQA", "KIMI_K2", "LING_1T", "Account", "Latent", "Ling", "account", "component"]


class Account(Protocol):
    """What is counted of any model."""

    name: str

    @property
    def row_bytes(self) -> int:
        """Bytes a token of context, in bf16."""

    def cache_bytes(self, tokens: int) -> int:
        """What one sequence of that many tokens keeps, in bf16 (states in float32)."""

    def attention_flops(self, context: int) -> int:
        """Attention alone, of one token behind ``context`` - 1 others."""

    def absorbed_flops(self, context: int) -> int:
        """The same as it is decoded: MLA in the latent space."""


@dataclass(frozen=True)
class Ling:
    """What a configuration comes to. A multiplication and an addition are two FLOPs."""

    name: str
    config: LingConfig
    parameters: Counter[str]  # by component; MTP layers are their own
    active: Counter[str]  # that one token meets: k of the experts, all else

    @property
    def total(self) -> int:
        """All parameters but those of MTP layers."""
        return self.parameters.total() - self.parameters["mtp"]

    @property
    def active_total(self) -> int:
        """Parameters that one token meets, embedding and head counted whole."""
        return self.active.total()

    @property
    def mla_layers(self) -> int:
        """Layers with MLA."""
        return sum(map(self.config.is_mla, range(self.config.num_hidden_layers)))

    @property
    def lightning_layers(self) -> int:
        """Layers with Lightning attention."""
        return self.config.num_hidden_layers - self.mla_layers

    @property
    def row_bytes(self) -> int:
        """Bytes a token of context, in bf16: a latent and a rotated key for each MLA layer."""
        return self.mla_layers * (self.config.kv_lora_rank + self.config.qk_rope_head_dim) * 2

    @property
    def state_bytes(self) -> int:
        """Bytes of the float32 memory of one Lightning layer, for one sequence of any length."""
        return self.config.num_attention_heads * self.config.head_dim**2 * 4

    def cache_bytes(self, tokens: int) -> int:
        """Rows of MLA, which grow, and states of Lightning, which do not."""
        return tokens * self.row_bytes + self.lightning_layers * self.state_bytes

    def attention_flops(self, context: int) -> int:
        """Attention of one token behind ``context`` - 1 others, projections not counted.

        Lightning: 5 H K V, the update of the memory (3) and its read (2), whatever the context.
        MLA over expanded keys: 2 H S (N + R) for scores and 2 H S V for values.
        """
        c = self.config
        lightning = 5 * c.num_attention_heads * c.head_dim**2
        row = 2 * (c.qk_nope_head_dim + c.qk_rope_head_dim + c.v_head_dim)
        mla = c.num_attention_heads * context * row
        return self.lightning_layers * lightning + self.mla_layers * mla

    def absorbed_flops(self, context: int) -> int:
        """The same with MLA in the latent space, as in decoding: 2 H S (L + R) and 2 H S L."""
        c = self.config
        lightning = 5 * c.num_attention_heads * c.head_dim**2
        row = 2 * (2 * c.kv_lora_rank + c.qk_rope_head_dim)
        mla = c.num_attention_heads * context * row
        return self.lightning_layers * lightning + self.mla_layers * mla

    def projection_flops(self) -> int:
        """Products with weights, of one token: 2 for each parameter that it meets in a matrix."""
        not_multiplied = self.active["embedding"] + self.active["norms"]
        return 2 * (self.active_total - not_multiplied)


@dataclass(frozen=True)
class GQA:
    """A model whose layers keep keys and values of some heads."""

    name: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def row_bytes(self) -> int:
        """Keys and values, bf16."""
        return self.layers * 2 * self.kv_heads * self.head_dim * 2

    def cache_bytes(self, tokens: int) -> int:
        """Rows alone."""
        return tokens * self.row_bytes

    def attention_flops(self, context: int) -> int:
        """2 S K for scores and 2 S K for values, for each head."""
        return self.layers * self.heads * context * 4 * self.head_dim

    def absorbed_flops(self, context: int) -> int:
        """The same: there is nothing to absorb."""
        return self.attention_flops(context)


@dataclass(frozen=True)
class Latent:
    """A model whose layers are all MLA."""

    name: str
    layers: int
    heads: int
    rank: int
    rope: int
    nope: int
    value: int

    @property
    def row_bytes(self) -> int:
        """A latent and a rotated key, bf16."""
        return self.layers * (self.rank + self.rope) * 2

    def cache_bytes(self, tokens: int) -> int:
        """Rows alone."""
        return tokens * self.row_bytes

    def attention_flops(self, context: int) -> int:
        """As Ling's MLA layers."""
        return self.layers * self.heads * context * 2 * (self.nope + self.rope + self.value)

    def absorbed_flops(self, context: int) -> int:
        """Likewise."""
        return self.layers * self.heads * context * 2 * (2 * self.rank + self.rope)


# ik_llama.cpp issue 873 (Ling-1T, the ancestor of the hybrid); moonshotai/Kimi-K2 config.json.
LING_1T = GQA("Ling-1T (GQA)", layers=80, heads=64, kv_heads=8, head_dim=128)
KIMI_K2 = Latent("Kimi K2 (MLA)", layers=61, heads=64, rank=512, rope=64, nope=128, value=128)


def account(name: str, config: LingConfig) -> Ling:
    """Count every tensor that the configuration asks for."""
    parameters: Counter[str] = Counter()
    active: Counter[str] = Counter()
    share = (config.num_experts_per_tok, config.num_experts)
    for tensor, shape in tensors(config):
        what, size = component(config, tensor), math.prod(shape)
        parameters[what] += size
        if what == "routed experts":
            active[what] += size * share[0]
        elif what != "mtp":
            active[what] += size
    active["routed experts"] //= share[1]
    return Ling(name, config, parameters, active)


def component(config: LingConfig, tensor: str) -> str:
    """What a tensor belongs to."""
    parts = tensor.split(".")
    if parts[0] == "lm_head":
        return "head"
    if parts[1] == "word_embeddings":
        return "embedding"
    if parts[1] == "norm":
        return "norms"
    layer = int(parts[2])
    if layer >= config.num_hidden_layers:
        return "mtp"
    if parts[3] == "attention":
        if parts[4].endswith("norm"):
            return "norms"
        return "MLA" if config.is_mla(layer) else "Lightning"
    if parts[3] != "mlp":
        return "norms"
    of = {"experts": "routed experts", "shared_experts": "shared experts", "gate": "routers"}
    return of.get(parts[4], "dense MLPs")
