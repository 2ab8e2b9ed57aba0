"""Right layers, unlike the reference in where they cut and in what order they add."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import _lightning
from lingspec.conformance.mutants._experts import combined
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor


class Chunks(Layer):
    """Lightning attention in chunks."""

    def recalled(self, q: Tensor, k: Tensor, v: Tensor, cache: Any) -> Tensor:
        o, state = _lightning.chunked(
            q, k, v, self.log_decay().to(q.dtype), scale=self.config["head_dim"] ** -0.5,
            initial_state=None if cache is None else cache.state, chunk=16,
        )  # fmt: skip
        if cache is not None:
            cache.state = state
        return o


class Absorbed(Layer):
    """Attention in the latent space."""

    def mla(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
        c = self.config
        N, L, H = c["qk_nope_head_dim"], c["kv_lora_rank"], c["num_attention_heads"]
        q, rows = self.queries(x, positions), self.rows(x, positions)
        if cache is not None:
            rows = cache.rows = torch.cat([cache.rows, rows], dim=1)
        up = self.weights["attention.kv_b_proj.weight"].view(H, -1, L)
        latent = torch.einsum("bthn,hnl->bthl", q[..., :N], up[:, :N])
        s = torch.einsum("bthw,bsw->bhts", torch.cat([latent, q[..., N:]], dim=-1), rows)
        T, S = s.shape[2:]
        unseen = torch.ones(T, S, dtype=torch.bool).triu(S - T + 1)
        p = (s * self.scale()).masked_fill(unseen, -torch.inf).softmax(-1)
        o = torch.einsum("bhts,bsl->bthl", p, rows[..., :L])
        o = torch.einsum("bthl,hvl->bthv", o, up[:, N:])
        return self.linear(o.flatten(2), "attention.dense")


class Everyone(Layer):
    """Every expert on every token, those not chosen weighed by 0; added from the last."""

    def experts(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)
        weights, chosen = self.routed(tokens)
        share = weights.new_zeros(len(tokens), self.config["num_experts"])
        share = share.scatter(1, chosen, weights).flip(1)
        names = [f"mlp.experts.{e}" for e in reversed(range(share.shape[1]))]
        results = torch.stack([self.dense(tokens, name) for name in names], dim=1)
        return self.shared(x) + combined(results, share).view_as(x)


class All(Chunks, Absorbed, Everyone):
    """All three."""
