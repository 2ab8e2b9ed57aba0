"""What a model keeps of the tokens it has seen.

Letters: B batch, S tokens seen, H heads, K key dim, V value dim, L latent rank, R rotary dims.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lingspec.reference.checks import require
from lingspec.reference.config import LingConfig

__all__ = ["HybridCache", "LatentCache", "LightningCache"]


@dataclass
class LightningCache:
    """The memory of a Lightning layer, of a fixed size."""

    state: Tensor  # (B, H, K, V) float32


@dataclass
class LatentCache:
    """The rows of an MLA layer: one of L + R numbers a token, shared by all heads."""

    rows: Tensor  # (B, S, L + R): the normalised latent, then the rotated key

    def append(self, rows: Tensor) -> Tensor:
        """Keep the rows of new tokens; all rows, old first."""
        self.rows = torch.cat([self.rows, rows], dim=1)
        return self.rows


@dataclass
class HybridCache:
    """One cache a layer; which tokens were padding; where each sequence goes on."""

    config: LingConfig
    dtype: torch.dtype  # of the activations
    layers: list[LightningCache | LatentCache]
    valid: Tensor  # (B, S) bool: False where a token was padding
    due: Tensor  # (B,) int64: the position of the next token

    @classmethod
    def empty(cls, config: LingConfig, batch: int, dtype: torch.dtype) -> HybridCache:
        """The cache of a model that has seen nothing, for activations of ``dtype``."""
        ok = isinstance(batch, int) and not isinstance(batch, bool) and batch >= 0
        require(ok, "batch", "value", batch, "an integer >= 0")
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        H, K = config.num_attention_heads, config.head_dim
        width = config.kv_lora_rank + config.qk_rope_head_dim
        layers: list[LightningCache | LatentCache] = [
            LatentCache(torch.zeros(batch, 0, width, dtype=dtype))
            if config.is_mla(layer)
            else LightningCache(torch.zeros(batch, H, K, K, dtype=wide))
            for layer in range(config.num_hidden_layers)
        ]
        nothing = torch.zeros(batch, 0, dtype=torch.bool)
        return cls(config, dtype, layers, nothing, torch.zeros(batch, dtype=torch.int64))

    @property
    def length(self) -> int:
        """Tokens seen, padding included."""
        return self.valid.shape[1]

    def check(self) -> None:
        """Refuse layers that are not those of the configuration, for the tokens that were seen.

        Raises:
            ContractError: somebody changed them.
        """
        c, (batch, seen) = self.config, self.valid.shape
        count = c.num_hidden_layers
        require(len(self.layers) == count, "cache", "layers", len(self.layers), f"{count}")
        for n, layer in enumerate(self.layers):
            kind: type = LatentCache if c.is_mla(n) else LightningCache
            name, got = f"cache.layers[{n}]", type(layer).__name__
            require(isinstance(layer, kind), name, "type", got, kind.__name__)
            if isinstance(layer, LatentCache):
                width = c.kv_lora_rank + c.qk_rope_head_dim
                held, want = layer.rows, torch.Size((batch, seen, width))
            else:
                sizes = (batch, c.num_attention_heads, c.head_dim, c.head_dim)
                held, want = layer.state, torch.Size(sizes)
            require(held.shape == want, name, "shape", tuple(held.shape), f"{tuple(want)}")
            wide = isinstance(layer, LightningCache) and self.dtype != torch.float64
            dtype = torch.float32 if wide else self.dtype
            require(held.dtype == dtype, name, "dtype", held.dtype, f"{dtype}")
            device = self.due.device
            require(held.device == device, name, "device", held.device, f"{device}")

    def saw(self, positions: Tensor, valid: Tensor) -> None:
        """Note that tokens at ``positions`` (B, T) came; ``valid`` is of all tokens now."""
        self.valid = valid
        if positions.shape[1]:
            self.due = positions[:, -1].long() + 1

    @contextmanager
    def kept_on_error(self) -> Iterator[None]:
        """Inside, an error leaves the cache as it was."""
        was = [dataclasses.replace(layer) for layer in self.layers], self.valid, self.due
        try:
            yield
        except BaseException:
            self.layers, self.valid, self.due = was
            raise

    def bytes(self) -> int:
        """What the tensors take."""
        held = [c.state if isinstance(c, LightningCache) else c.rows for c in self.layers]
        return sum(x.numel() * x.element_size() for x in held)
