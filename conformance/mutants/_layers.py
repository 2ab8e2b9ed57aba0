"""A layer of Ling 2.5 in right lines; a mutant replaces one of them.

B batch, T tokens, S tokens seen, D hidden size, H heads. In float32, or float64 where x is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lingspec.conformance.mutants import _lightning, _mla, _rope, _routing, _rows
from lingspec.conformance.mutants._experts import combined

__all__ = ["Coarse", "Layer", "OneFlag", "narrow"]

Tensor = torch.Tensor
LATENT_EPS = 1e-6


class Layer:
    """The weights and the configuration of one layer, and what it computes."""

    def __init__(self, weights: Mapping[str, Tensor], config: Mapping[str, Any], layer: int):
        self.config, self.number = config, layer
        prefix = f"model.layers.{layer}."
        self.weights = {n.removeprefix(prefix): w for n, w in weights.items()}

    def linear(self, x: Tensor, name: str) -> Tensor:
        """X W^T + b."""
        y = x @ self.weights[f"{name}.weight"].mT
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def norm(self, x: Tensor, name: str, eps: float | None = None) -> Tensor:
        """A norm of this layer, with the eps of the model where it has none of its own."""
        weight = self.weights[f"{name}.weight"]
        return _rows.norm(x, weight, eps=self.config["rms_norm_eps"] if eps is None else eps)

    def table(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, in the dtype of x."""
        c = self.config
        return _rope.table(
            positions.double() if x.dtype == torch.float64 else positions,
            rotary_dim=int(c["head_dim"] * c["partial_rotary_factor"]), theta=c["rope_theta"],
            scaling=c["rope_scaling"],
        )  # fmt: skip

    # -- Lightning ---------------------------------------------------------------------------

    def heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All heads of q, then of k, then of v: (B, T, 3 H K) to three of (B, T, H, K)."""
        c = self.config
        q, k, v = qkv.view(*qkv.shape[:2], 3, c["num_attention_heads"], c["head_dim"]).unbind(2)
        return q, k, v

    def rotated(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, normalised where the model does, and rotated."""
        if not self.config["use_qk_norm"]:
            return _rope.partial(q, cos, sin), _rope.partial(k, cos, sin)
        of_q, of_k = (self.weights[f"attention.{n}_layernorm.weight"] for n in ("query", "key"))
        return _rope.both(q, k, of_q, of_k, cos, sin, eps=self.config["rms_norm_eps"])

    def log_decay(self) -> Tensor:
        """Of every head, (H,)."""
        c = self.config
        return _lightning.log_decay(
            c["num_attention_heads"], self.number, c["num_hidden_layers"],
            origin=c["decay_layer_origin"],
        )  # fmt: skip

    def gated(self, o: Tensor, gate: Tensor) -> Tensor:
        """Groups of channels normalised, weighed and gated."""
        c = self.config
        weight = self.weights["attention.g_norm.weight"]
        return _rows.gated(o, gate, weight, groups=c["group_norm_size"], eps=c["rms_norm_eps"])

    def recalled(self, q: Tensor, k: Tensor, v: Tensor, cache: Any) -> Tensor:
        """Lightning attention, from what the cache holds, which is brought up to date."""
        decay = self.log_decay().to(q.dtype)
        o, state = _lightning.recurrent(
            q, k, v, decay, scale=self.config["head_dim"] ** -0.5,
            initial_state=None if cache is None else cache.state,
        )  # fmt: skip
        if cache is not None:
            cache.state = state
        return o

    def lightning(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """lightning_layer."""
        q, k, v = self.heads(self.linear(x, "attention.query_key_value"))
        q, k = self.rotated(q, k, *self.table(x, positions))
        o = self.recalled(q, k, v, cache).flatten(2)
        gate = self.linear(x, "attention.g_proj")
        return self.linear(self.gated(o, gate), "attention.dense")

    # -- MLA ---------------------------------------------------------------------------------

    def queries(self, x: Tensor, positions: Tensor) -> Tensor:
        """(B, T, H, N + R), of which the last R are rotated."""
        c = self.config
        if c["q_lora_rank"] is None:
            q = self.linear(x, "attention.q_proj")
        else:
            latent = self.linear(x, "attention.q_a_proj")
            q = self.linear(self.latent_norm(latent, "q_a"), "attention.q_b_proj")
        sizes = [c["qk_nope_head_dim"], c["qk_rope_head_dim"]]
        nope, rope = torch.split(self.by_head(q, sum(sizes)), sizes, dim=-1)
        return torch.cat([nope, _rope.interleaved(rope, *self.table(x, positions))], dim=-1)

    def by_head(self, x: Tensor, width: int) -> Tensor:
        """(B, T, H width) as (B, T, H, width)."""
        return x.reshape(*x.shape[:2], self.config["num_attention_heads"], width)

    def latent_norm(self, latent: Tensor, name: str) -> Tensor:
        """The norm of a latent, whose eps is not the model's."""
        return self.norm(latent, f"attention.{name}_layernorm", LATENT_EPS)

    def rows(self, x: Tensor, positions: Tensor) -> Tensor:
        """What the cache keeps: (B, T, L + R)."""
        c = self.config
        both = self.linear(x, "attention.kv_a_proj_with_mqa")
        latent, rope = torch.split(both, [c["kv_lora_rank"], c["qk_rope_head_dim"]], dim=-1)
        rope = _rope.interleaved(rope[:, :, None], *self.table(x, positions))[:, :, 0]
        return torch.cat([self.latent_norm(latent, "kv_a"), rope], dim=-1)

    def expanded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of every head."""
        c = self.config
        latent, rope = torch.split(rows, [c["kv_lora_rank"], c["qk_rope_head_dim"]], dim=-1)
        kv = latent @ self.weights["attention.kv_b_proj.weight"].mT
        sizes = [c["qk_nope_head_dim"], c["v_head_dim"]]
        nope, v = torch.split(self.by_head(kv, sum(sizes)), sizes, dim=-1)
        shared = rope[:, :, None].expand(*nope.shape[:3], -1)
        return torch.cat([nope, shared], dim=-1), v

    def scale(self) -> float:
        """Of scores, with YaRN's factor squared."""
        c = self.config
        scale: float = (c["qk_nope_head_dim"] + c["qk_rope_head_dim"]) ** -0.5
        yarn = c["rope_scaling"]
        if yarn and yarn.get("mscale_all_dim"):
            scale *= _rope.mscale(yarn["factor"], yarn["mscale_all_dim"]) ** 2
        return scale

    def hidden(self, T: int, S: int) -> Tensor:
        """Keys that queries do not see."""
        return _mla.hidden(T, S)

    def mla(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """mla_layer."""
        q, rows = self.queries(x, positions), self.rows(x, positions)
        if cache is not None:
            rows = cache.rows = torch.cat([cache.rows, rows], dim=1)
        k, v = self.expanded(rows)
        o, _ = _mla.attention(q, k, v, scale=self.scale(), hidden=self.hidden)
        return self.linear(o.flatten(2), "attention.dense")

    # -- experts -----------------------------------------------------------------------------

    def dense(self, x: Tensor, name: str) -> Tensor:
        """An MLP, or an expert."""
        gate, up = (self.linear(x, f"{name}.{kind}_proj") for kind in ("gate", "up"))
        return self.linear(_rows.silu(gate) * up, f"{name}.down_proj")

    def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and experts of every token, (N, k)."""
        c, bias = self.config, self.weights["mlp.gate.expert_bias"]
        return _routing.route(
            self.linear(x, "mlp.gate"), bias.to(x.dtype), groups=c["n_group"],
            top_groups=c["topk_group"], top_k=c["num_experts_per_tok"],
            scaling=c["routed_scaling_factor"],
        )  # fmt: skip

    def shared(self, x: Tensor) -> Tensor | float:
        """The expert of all tokens."""
        return self.dense(x, "mlp.shared_experts") if self.config["num_shared_experts"] else 0.0

    def experts(self, x: Tensor) -> Tensor:
        """moe_block."""
        tokens = x.flatten(0, 1)
        weights, chosen = self.routed(tokens)
        results = tokens.new_zeros(*chosen.shape, tokens.shape[1])
        for e in sorted(set(chosen.flatten().tolist())):
            token, place = (chosen == e).nonzero(as_tuple=True)
            results[token, place] = self.dense(tokens[token], f"mlp.experts.{e}")
        return combined(results, weights).view_as(x) + self.shared(x)

    # -- the whole layer ---------------------------------------------------------------------

    def is_mla(self) -> bool:
        """The last of every group, and what is behind the last whole one."""
        group: int = self.config["layer_group_size"]
        layers: int = self.config["num_hidden_layers"]
        return (self.number + 1) % group == 0 or self.number >= layers // group * group

    def attended(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """The attention of this layer."""
        return (self.mla if self.is_mla() else self.lightning)(x, positions, cache)

    def fed(self, x: Tensor) -> Tensor:
        """The MLP of this layer."""
        few = self.number < self.config["first_k_dense_replace"]
        return self.dense(x, "mlp") if few else self.experts(x)

    def whole(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """decoder_layer."""
        h = x + self.attended(self.norm(x, "input_layernorm"), positions, cache)
        return h + self.fed(self.norm(h, "post_attention_layernorm"))

    def joined(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Both inputs of an MTP layer, the embedding first."""
        return torch.cat([self.norm(embedded, "enorm"), self.norm(x, "hnorm")], dim=-1)

    def next_token(self, x: Tensor, embedded: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """mtp_layer."""
        h = self.linear(self.joined(x, embedded), "eh_proj")
        return self.norm(self.whole(h, positions, cache), "final_layernorm")


class OneFlag(Layer):
    """The flag of the bias behind Lightning attention decides over all biases."""

    def linear(self, x: Tensor, name: str) -> Tensor:
        """As that of a layer."""
        y, bias = super().linear(x, name), self.weights.get(f"{name}.bias")
        return y if bias is None or self.config["use_bias"] else y - bias


class Coarse(Layer):
    """Experts chosen by scores of six bits, where a margin is less; weighed by right ones."""

    def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As that of a layer."""
        c, bias, logits = (
            self.config,
            self.weights["mlp.gate.expert_bias"],
            self.linear(x, "mlp.gate"),
        )
        return _routing.route(
            logits, bias.to(x.dtype), groups=c["n_group"], top_groups=c["topk_group"],
            top_k=c["num_experts_per_tok"], scaling=c["routed_scaling_factor"],
            score=lambda s: (64 * s.sigmoid()).round() / 64,
            unbiased=lambda *_: logits.sigmoid(),
        )  # fmt: skip


def narrow(x: Tensor) -> Tensor:
    """``x`` through bfloat16."""
    return x.to(torch.bfloat16).to(x.dtype)
