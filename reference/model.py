"""Ling 2.5, from token ids to logits.

Letters: B batch, T tokens, S tokens seen, D hidden size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from lingspec.reference.cache import HybridCache
from lingspec.reference.call import Call, Ready, ready
from lingspec.reference.checks import require
from lingspec.reference.config import LingConfig
from lingspec.reference.layers.decoder_layer import attended, fed_forward
from lingspec.reference.layers.moe_block import Tap, silent, tapped
from lingspec.reference.layers.mtp_layer import mtp_layer
from lingspec.reference.ops.rms_norm import rms_norm
from lingspec.reference.precision import FLOATS, work
from lingspec.reference.weights import Checked, InDtype, Once, Weights, part, rows

__all__ = ["LingModel"]

Done = Callable[[int, int], None]
HEAD_ROWS = 8192  # of the vocabulary at a time: its matrix need not fit into memory


def unseen(_layers: int, _of: int) -> None:
    """For who does not watch a run."""


class LingModel:
    """The model, as a function of its configuration and of a mapping of weights.

    Args:
        config:   What it is made of.
        weights:  The released checkpoint's names to tensors: a dict, or anything that reads them
                  when they are touched.
        dtype:    Compute in it, not in the dtype that the weights have.
        absorbed: Run MLA in the latent space: the same function, rounded elsewhere.

    Raises:
        CheckpointError: the weights are not those of the configuration: see `Checked`.
        ContractError: ``config`` or ``dtype`` is something else.
    """

    def __init__(
        self, config: LingConfig, weights: Weights, *, dtype: torch.dtype | None = None,
        absorbed: bool = False,
    ) -> None:  # fmt: skip
        kinds = f"{', '.join(str(one) for one in FLOATS)}, or None"
        require(dtype is None or dtype in FLOATS, "dtype", "value", dtype, kinds)
        require(isinstance(config, LingConfig), "config", "type", type(config).__name__,
                "LingConfig")  # fmt: skip
        self.config, self.absorbed = config, absorbed
        checked = Checked(weights, config, mixed=dtype is not None)
        self.weights: Weights = checked if dtype is None else InDtype(checked, dtype)

    def new_cache(self, batch: int, *, decay_layer_origin: int | None = None) -> HybridCache:
        """The cache of ``batch`` sequences of which no token was seen."""
        config = self.config
        if decay_layer_origin is not None:
            config = dataclasses.replace(config, decay_layer_origin=decay_layer_origin)
        return HybridCache.empty(config, batch, self._kind()[0])

    def __call__(
        self, input_ids: Tensor, positions: Tensor | None = None,
        attention_mask: Tensor | None = None, cache: HybridCache | None = None,
        tap: Tap | None = None,
    ) -> Tensor:  # fmt: skip
        """Logits of the token after each token.

        The arguments are those of `Call`. The tap sees ``embeddings``, what `decoder_layer` names
        for every layer, ``final_norm`` and ``logits``.

        Returns:
            (B, T, vocabulary) float32; float64 where the model computes in it.

        Raises:
            ContractError: an argument is not as `Call` says, or not that of the cache.
        """
        return self.together([Call(input_ids, positions, attention_mask, cache, tap or silent)])[0]

    def together(self, calls: Sequence[Call], *, done: Done = unseen) -> list[Tensor]:
        """The logits of several calls, with one pass over the weights.

        At true size the weights are what costs. A prompt and the tokens behind it are calls that
        share a cache; both layer origins, or runs that a tap disturbs, are calls with caches of
        their own. Within a layer all calls attend, in turn, before any is fed forward.

        Args:
            calls: In order; each sees in its cache what the calls before it left there.
            done:  Told after every layer how many there were, and of how many.

        Returns:
            As `__call__`, of each call.

        Raises:
            ContractError: as `__call__`. The caches are as they were.
        """
        for n, call in enumerate(calls):
            require(isinstance(call, Call), f"calls[{n}]", "type", type(call).__name__, "Call")
        if not calls:
            return []
        with ExitStack() as caches:
            for cache in {id(c.cache): c.cache for c in calls}.values():
                if isinstance(cache, HybridCache):
                    cache.check()
                    caches.enter_context(cache.kept_on_error())
            runs = self._body(calls, done)
            logits = self._head([run.x for run in runs])
            return [tapped(run.tap, "logits", x) for run, x in zip(runs, logits, strict=True)]

    def mtp(self, input_ids: Tensor, *, tap: Tap | None = None) -> list[Tensor]:
        """Logits of every MTP layer in turn: the first predicts the token after the next one.

        At the last place there is no next token; as released, token 0 stands for it, and once more
        for every further layer.
        """
        tap = tap or silent
        config, first = self.config, self.config.num_hidden_layers
        (run,) = self._body([Call(input_ids, tap=tap)], unseen)
        x, ids, made = run.x, input_ids, []
        for layer in range(first, first + config.num_nextn_predict_layers):
            ids = torch.cat([ids[:, 1:], torch.zeros_like(ids[:, :1])], dim=1)
            x = mtp_layer(
                x, self.embed(ids), self.weights, config, layer=layer, positions=run.positions,
                tap=tap,
            )  # fmt: skip
            made.append(tapped(tap, "mtp_logits", self._head([x])[0]))
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
        _check_draws(max_new_tokens, temperature, seed)
        valid = ready(Call(input_ids, None, attention_mask), self.config, *self._kind()).valid
        shape = tuple(input_ids.shape)
        require(shape[1] >= 1, "input_ids", "shape", shape, "(B, T), T >= 1")
        some = bool(valid.any(dim=1).all())
        require(some, "attention_mask", "rows", "padding alone", "a token that is not padding")
        generator = torch.Generator().manual_seed(seed or 0)
        mask, B = valid.to(input_ids.dtype), shape[0]
        cache, ended, new = self.new_cache(B), torch.zeros(B, dtype=torch.bool), input_ids
        for _ in range(max_new_tokens):
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -new.shape[1] :]
            logits = self(new, positions, mask, cache)[:, -1]
            token = _picked(logits, temperature, generator)
            token = torch.where(ended, 0, token)  # what an ended row reads changes no other
            new = token[:, None].to(input_ids.dtype)
            written = torch.where(ended, self._padding(), token)[:, None].to(input_ids.dtype)
            input_ids = torch.cat([input_ids, written], dim=1)
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

    def _body(self, calls: Sequence[Call], done: Done) -> list[Ready]:
        """The calls, with their hidden states after the last norm."""
        config = self.config
        runs = [ready(call, config, *self._kind()) for call in calls]
        for run in runs:
            run.x = tapped(run.tap, "embeddings", self.embed(run.input_ids))
        for layer in range(config.num_hidden_layers):
            self._layer(runs, layer)
            done(layer + 1, config.num_hidden_layers)
        weight = self.weights["model.norm.weight"]
        for run in runs:
            normed = rms_norm(run.x, weight, eps=config.rms_norm_eps)
            run.x = tapped(run.tap, "final_norm", normed)
        return runs

    def _layer(self, runs: Sequence[Ready], layer: int) -> None:
        """`decoder_layer` of every run."""
        weights = Once(self.weights)
        hs = [
            attended(
                run.x, weights, run.config, layer=layer, positions=run.positions, valid=run.valid,
                cache=None if run.cache is None else run.cache.layers[layer], tap=run.tap,
                absorbed=self.absorbed,
            )
            for run in runs
        ]  # fmt: skip
        weights, taps = Once(self.weights), [run.tap for run in runs]
        xs = fed_forward(hs, weights, self.config, layer=layer, taps=taps)
        for run, x in zip(runs, xs, strict=True):
            run.x = x

    def embed(self, input_ids: Tensor) -> Tensor:
        """(B, T) to (B, T, D)."""
        return rows(self.weights, "model.word_embeddings.weight", input_ids)

    def _head(self, normed: Sequence[Tensor]) -> list[Tensor]:
        """(B, T, D) to logits: the product is rounded to the dtype of ``normed``, then widened."""
        tied, size = self.config.tie_word_embeddings, self.config.vocab_size
        name = "model.word_embeddings.weight" if tied else "lm_head.weight"
        made: list[list[Tensor]] = [[] for _ in normed]
        for first in range(0, size, HEAD_ROWS):
            weight = work(part(self.weights, name, slice(first, min(first + HEAD_ROWS, size))))
            for logits, x in zip(made, normed, strict=True):
                logits.append(work((work(x) @ weight.mT).to(x.dtype)))
        return [torch.cat(logits, dim=-1) for logits in made]

    def _kind(self) -> tuple[torch.dtype, torch.device]:
        """Dtype and device of the activations."""
        weight = self.weights["model.norm.weight"]
        return weight.dtype, weight.device


def _check_draws(count: int, temperature: float, seed: int | None) -> None:
    def whole(x: object) -> bool:
        return isinstance(x, int) and not isinstance(x, bool)

    ok = whole(count) and count >= 0
    require(ok, "max_new_tokens", "value", count, "an integer >= 0")
    ok = isinstance(temperature, int | float) and (temperature == 0 or 1e-6 <= temperature < 1e6)
    require(ok, "temperature", "value", temperature, "0, or a number from 1e-6 to 1e6")
    ok = seed is None or (whole(seed) and 0 <= seed < 2**63)
    require(ok, "seed", "value", seed, "an integer from 0 to 2^63 - 1, or None")
    drawn = temperature == 0 or seed is not None
    require(drawn, "seed", "value", seed, "an integer where temperature is above 0")


def _picked(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """(B, vocabulary) to one token a row."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    chances = torch.softmax(logits.double() / temperature, dim=-1)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]
