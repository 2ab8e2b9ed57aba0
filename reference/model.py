"""Ling 2.5, from token ids to logits.

Letters: B batch, T tokens, S tokens seen, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.cache import HybridCache
from lingspec.reference.checks import require
from lingspec.reference.config import LingConfig
from lingspec.reference.layers.decoder_layer import decoder_layer
from lingspec.reference.layers.moe_block import Tap, silent, tapped
from lingspec.reference.layers.mtp_layer import mtp_layer
from lingspec.reference.ops.rms_norm import rms_norm
from lingspec.reference.precision import work
from lingspec.reference.weights import InDtype, Weights, rows

__all__ = ["LingModel"]


class LingModel:
    """The model, as a function of its configuration and of a mapping of weights.

    Args:
        config:   What it is made of.
        weights:  The released checkpoint's names to tensors: a dict, or anything that reads them
                  when they are touched.
        dtype:    Compute in it, not in the dtype that the weights have.
        absorbed: Run MLA in the latent space: the same function, rounded elsewhere.
    """

    def __init__(
        self, config: LingConfig, weights: Weights, *, dtype: torch.dtype | None = None,
        absorbed: bool = False,
    ) -> None:  # fmt: skip
        self.config, self.absorbed = config, absorbed
        self.weights = weights if dtype is None else InDtype(weights, dtype)

    def new_cache(self, batch: int) -> HybridCache:
        """The cache of ``batch`` sequences of which no token was seen."""
        return HybridCache.empty(self.config, batch, self.weights["model.norm.weight"].dtype)

    def __call__(
        self, input_ids: Tensor, positions: Tensor | None = None,
        attention_mask: Tensor | None = None, cache: HybridCache | None = None,
        tap: Tap | None = None,
    ) -> Tensor:  # fmt: skip
        """Logits of the token after each token.

        Args:
            input_ids:      (B, T) integers below the vocabulary's size.
            positions:      (B, T) integers; by default they count on from the cache.
            attention_mask: (B, S) of 0 and 1 over all tokens seen, 0 at padding, which lies on the
                            left. By default nothing is padding that was not before.
            cache:          What was seen before; it is brought up to date. None: nothing was.
            tap:            Sees every named tensor, in order, and may return another in its place:
                            ``embeddings``, what `decoder_layer` names for every layer,
                            ``final_norm``, ``logits``.

        Returns:
            (B, T, vocabulary) float32; float64 where the model computes in it.

        Raises:
            ContractError: an argument is not as above, or not that of the cache.
        """
        tap = tap or silent
        normed = self._body(input_ids, positions, attention_mask, cache, tap)
        return tapped(tap, "logits", self.head(normed))

    def mtp(self, input_ids: Tensor, *, tap: Tap | None = None) -> list[Tensor]:
        """Logits of every MTP layer in turn: the first predicts the token after the next one.

        At the last place there is no next token; as released, token 0 stands for it, and once more
        for every further layer.
        """
        tap = tap or silent
        config, first = self.config, self.config.num_hidden_layers
        positions = self._positions(input_ids, None, 0)
        x = self._body(input_ids, positions, None, None, tap)
        ids, made = input_ids, []
        for layer in range(first, first + config.num_nextn_predict_layers):
            ids = torch.cat([ids[:, 1:], torch.zeros_like(ids[:, :1])], dim=1)
            x = mtp_layer(
                x, self.embed(ids), self.weights, config, layer=layer, positions=positions, tap=tap
            )
            made.append(tapped(tap, "mtp_logits", self.head(x)))
        return made

    def generate(
        self, input_ids: Tensor, max_new_tokens: int, *, temperature: float = 0.0,
        seed: int | None = None, attention_mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Go on from a prompt, a token at a time.

        Args:
            input_ids:      (B, T) prompts, padded on the left; T >= 1.
            max_new_tokens: >= 0; fewer come out where every row has ended.
            temperature:    0 takes the most likely token, the first of equals; above 0 a token is
                            drawn from softmax(logits / temperature).
            seed:           Of the draws; needed where there are any.
            attention_mask: (B, T) of 0 and 1, 0 at padding. Positions count on from the first
                            token that is not padding.

        Returns:
            (B, T + new): behind an end-of-sequence token stands the padding token.

        Raises:
            ContractError: an argument is not as above.
        """
        B, T = input_ids.shape
        require(T >= 1, "input_ids", "shape", tuple(input_ids.shape), "(B, T), T >= 1")
        require(max_new_tokens >= 0, "max_new_tokens", "value", max_new_tokens, "an integer >= 0")
        require(temperature >= 0, "temperature", "value", temperature, "a number >= 0")
        ok = temperature == 0 or seed is not None
        require(ok, "seed", "value", seed, "an integer where temperature is above 0")
        generator = torch.Generator().manual_seed(seed or 0)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        cache, ended, new = self.new_cache(B), torch.zeros(B, dtype=torch.bool), input_ids
        for _ in range(max_new_tokens):
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -new.shape[1] :]
            logits = self(new, positions, mask, cache)[:, -1]
            token = _picked(logits, temperature, generator)
            token = torch.where(ended, self._padding(), token)
            new = token[:, None].to(input_ids.dtype)
            input_ids = torch.cat([input_ids, new], dim=1)
            mask = torch.cat([mask, torch.ones_like(new)], dim=1)
            ended = ended | torch.isin(token, self._ends())
            if bool(ended.all()):
                break
        return input_ids

    def _ends(self) -> Tensor:
        end = self.config.eos_token_id
        return torch.tensor([] if end is None else [end] if isinstance(end, int) else list(end))

    def _padding(self) -> int:
        return self.config.pad_token_id or 0

    # -- parts -------------------------------------------------------------------------------

    def _body(
        self, input_ids: Tensor, positions: Tensor | None, attention_mask: Tensor | None,
        cache: HybridCache | None, tap: Tap,
    ) -> Tensor:  # fmt: skip
        """Hidden states after the last norm."""
        self._check(input_ids, cache)
        seen = 0 if cache is None else cache.length
        valid = self._valid(input_ids, attention_mask, cache)
        positions = self._positions(input_ids, positions, seen)
        x = tapped(tap, "embeddings", self.embed(input_ids))
        for layer in range(self.config.num_hidden_layers):
            x = decoder_layer(
                x, self.weights, self.config, layer=layer, positions=positions, valid=valid,
                cache=None if cache is None else cache.layers[layer], tap=tap,
                absorbed=self.absorbed,
            )  # fmt: skip
        if cache is not None:
            cache.valid = valid
        normed = rms_norm(x, self.weights["model.norm.weight"], eps=self.config.rms_norm_eps)
        return tapped(tap, "final_norm", normed)

    def embed(self, input_ids: Tensor) -> Tensor:
        """(B, T) to (B, T, D)."""
        return rows(self.weights, "model.word_embeddings.weight", input_ids)

    def head(self, normed: Tensor) -> Tensor:
        """(B, T, D) to logits: the product is rounded to the dtype of ``normed``, then widened."""
        tied = self.config.tie_word_embeddings
        weight = self.weights["model.word_embeddings.weight" if tied else "lm_head.weight"]
        return work((work(normed) @ work(weight).mT).to(normed.dtype))

    def _check(self, input_ids: Tensor, cache: HybridCache | None) -> None:
        ok = input_ids.dtype in (torch.int32, torch.int64) and input_ids.dim() == 2
        require(ok, "input_ids", "shape and dtype", (tuple(input_ids.shape), input_ids.dtype),
                "(B, T) of int32 or int64")  # fmt: skip
        size = self.config.vocab_size
        wrong = input_ids[(input_ids < 0) | (input_ids >= size)].tolist()
        require(not wrong, "input_ids", "values", wrong[:3], f"integers from 0 to {size - 1}")
        if cache is not None:
            require(cache.config == self.config, "cache", "configuration", "of another model",
                    "that of this model")  # fmt: skip
            B, held = input_ids.shape[0], cache.valid.shape[0]
            require(held == B, "cache", "batch", held, f"{B}, as input_ids")

    def _positions(self, input_ids: Tensor, positions: Tensor | None, seen: int) -> Tensor:
        B, T = input_ids.shape
        if positions is None:
            return torch.arange(seen, seen + T).expand(B, T)
        require(
            tuple(positions.shape) == (B, T),
            "positions",
            "shape",
            tuple(positions.shape),
            f"({B}, {T})",
        )
        ok = positions.dtype in (torch.int32, torch.int64) and bool((positions >= 0).all())
        require(ok, "positions", "values", positions.tolist(), "integers >= 0")
        return positions

    def _valid(self, input_ids: Tensor, mask: Tensor | None, cache: HybridCache | None) -> Tensor:
        B, T = input_ids.shape
        before = torch.zeros(B, 0, dtype=torch.bool) if cache is None else cache.valid
        if mask is None:
            return torch.cat([before, torch.ones(B, T, dtype=torch.bool)], dim=1)
        name, shape = "attention_mask", (B, before.shape[1] + T)
        require(tuple(mask.shape) == shape, name, "shape", tuple(mask.shape), f"{shape}")
        valid = mask == 1
        require(bool((valid | (mask == 0)).all()), name, "values", mask.tolist(), "0 and 1")
        never_falls = bool((valid[:, 1:] | ~valid[:, :-1]).all())
        require(never_falls, name, "rows", mask.tolist(), "padding on the left only")
        same = torch.equal(valid[:, : before.shape[1]], before)
        require(same, name, "rows", mask.tolist(), "what the cache was filled with")
        return valid


def _picked(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """(B, vocabulary) to one token a row."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    chances = torch.softmax(logits.double() / temperature, dim=-1)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]
