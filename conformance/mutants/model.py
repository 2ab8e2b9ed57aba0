"""Wrong implementations of model."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import _rows, mutant
from lingspec.conformance.mutants._layers import Layer
from lingspec.conformance.mutants._whole import Whole

Tensor = torch.Tensor
OP = "model"


def _run(kind: type[Whole], given: tuple[Any, ...], call: dict[str, Any]) -> Tensor:
    ids, weights, config = given
    logits: Tensor = kind(weights, config).logits(ids, call["positions"], call.get("cache"))
    return logits


@mutant(
    OP,
    law="authority",
    source="constructed after models that mix kinds of layers",
    looks_like="decays are those of the number among Lightning layers alone",
)
def numbers_lightning_layers_among_themselves(*given: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def lightning(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
            group: int = self.config["layer_group_size"]
            number = self.number
            self.number = sum((n + 1) % group > 0 for n in range(number))
            y = super().lightning(x, positions, cache)
            self.number = number
            return y

    return _run(type("Wrongs", (Whole,), {"kind": Wrong}), given, call)


@mutant(
    OP,
    law="authority",
    source="constructed after Gemma",
    looks_like="embeddings are multiplied by the root of their width",
)
def scales_the_embeddings(*given: Any, **call: Any) -> Tensor:
    class Wrong(Whole):
        def embedded(self, ids: Tensor) -> Tensor:
            root: float = self.config["hidden_size"] ** 0.5
            return super().embedded(ids) * root

    return _run(Wrong, given, call)


@mutant(
    OP,
    law="authority",
    source="constructed after models with tied embeddings",
    looks_like="the head is the embedding, whatever the configuration says",
)
def projects_with_the_embeddings(*given: Any, **call: Any) -> Tensor:
    class Wrong(Whole):
        def head(self) -> Tensor:
            return self.weights["model.word_embeddings.weight"]

    return _run(Wrong, given, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the norm behind the last layer is left out",
)
def leaves_the_last_norm_out(*given: Any, **call: Any) -> Tensor:
    class Wrong(Whole):
        def normed(self, x: Tensor) -> Tensor:
            return x

    return _run(Wrong, given, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the norm behind the last layer has the eps of the latents",
)
def takes_another_eps_for_the_last_norm(*given: Any, **call: Any) -> Tensor:
    class Wrong(Whole):
        def normed(self, x: Tensor) -> Tensor:
            return _rows.norm(x, self.weights["model.norm.weight"], eps=1e-6)

    return _run(Wrong, given, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="logits are rounded to bfloat16 and widened again",
)
def returns_logits_through_bfloat16(*given: Any, **call: Any) -> Tensor:
    logits = _run(Whole, given, call)
    return logits.bfloat16().to(logits.dtype)


@mutant(
    OP,
    law="authority",
    source="constructed after loaders that sort names as text",
    looks_like="the experts of every layer are those of the first that has any",
)
def feeds_every_layer_s_tokens_to_the_first_experts(*given: Any, **call: Any) -> Tensor:
    class Wrong(Whole):
        def layer(self, number: int) -> Layer:
            made = super().layer(number)
            first = f"model.layers.{self.config['first_k_dense_replace']}.mlp.experts."
            made.weights |= {
                f"mlp.experts.{n.removeprefix(first)}": w
                for n, w in self.weights.items()
                if n.startswith(first) and number >= self.config["first_k_dense_replace"]
            }
            return made

    return _run(Wrong, given, call)


@mutant(
    OP,
    law="handover",
    source="constructed",
    looks_like="positions begin at 0 in every call",
)
def counts_positions_from_the_start_of_a_call(*given: Any, **call: Any) -> Tensor:
    if call.get("cache") is not None:
        call["positions"] = call["positions"] - call["positions"][:, :1]
    return _run(Whole, given, call)


@mutant(
    OP,
    law="handover",
    source="constructed after caches that are kept by kind of layer",
    looks_like="all Lightning layers begin with the state of the first",
)
def begins_all_lightning_layers_with_one_state(*given: Any, **call: Any) -> Tensor:
    cache = call.get("cache")
    if cache is not None:
        for held in cache[1:]:
            if hasattr(held, "state"):
                held.state = cache[0].state.clone()
    return _run(Whole, given, call)


@mutant(
    OP,
    law="handover",
    source="constructed",
    looks_like="the cache of the last layer is not brought up to date",
)
def forgets_what_the_last_layer_kept(*given: Any, **call: Any) -> Tensor:
    cache: Any = call.get("cache")
    before: Any = None if cache is None else cache[-1].rows
    logits = _run(Whole, given, call)
    if before is not None:
        new = torch.zeros_like(cache[-1].rows[:, before.shape[1] :])
        cache[-1].rows = torch.cat([before, new], dim=1)
    return logits
