"""Names of a trace's tensors, and the order in which a model makes them.

A name is ``[CALL.][layers.N. | cache.N.]KIND``: the call of the model it is of, nothing where the
trace has one call; the layer; and what the tensor is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["INPUTS", "Name", "in_order", "parsed"]

# What a call was given, under every name it goes by. The model makes none of these.
INPUTS = ("input_ids", "positions", "position_ids", "attention_mask")
OF_A_LAYER = ("attention", "router_logits", "topk_idx", "topk_weight", "mlp", "output")
OF_A_CACHE = ("state", "rows", "keys", "values")
NUMBERED = re.compile(r"(?:^|\.)(layers|cache)\.([0-9]+)\.(.+)")
STEP = re.compile(r"decode\.([0-9]+)")


@dataclass(frozen=True)
class Name:
    """A name in its parts."""

    call: str  # "", "prefill", "decode.3", or whatever a recording says
    of: str  # "layers", "cache", or "" where the tensor is of no layer
    layer: int | None
    kind: str

    @property
    def step(self) -> int | None:
        """Which step of decoding it is of; None if of none."""
        match = STEP.fullmatch(self.call)
        return int(match[1]) if match else None


def parsed(name: str) -> Name:
    """A name in its parts; any string has some."""
    if match := NUMBERED.search(name):
        return Name(name[: match.start()], match[1], int(match[2]), match[3])
    call, _, kind = name.rpartition(".")
    return Name(call, "", None, kind)


def in_order(names: Iterable[str], layers: int | None = None) -> list[str]:
    """Names in the order in which the model makes them; unknown ones last, as they come.

    Args:
        names:  In any order.
        layers: How many layers the model has; those behind them are MTP layers, and run after
                the logits are made. None: it is not known, and none is.
    """
    return sorted(names, key=lambda name: _place(parsed(name), layers))


def _place(name: Name, layers: int | None) -> tuple[int, ...]:
    """What names are sorted by: call, part of the model, layer, part of the layer."""
    if name.of == "cache":
        known = name.kind in OF_A_CACHE
        return (3, 0, name.layer or 0, OF_A_CACHE.index(name.kind)) if known else (4,)
    call = (0, 0) if name.call in ("", "prefill") else (1, name.step or 0)
    if call[0] == 1 and name.step is None:
        return (4,)
    if name.layer is not None:
        if name.kind not in OF_A_LAYER:
            return (4,)
        part = 2 if layers is None or name.layer < layers else 5
        return (*call, part, name.layer, OF_A_LAYER.index(name.kind))
    if name.kind in INPUTS:
        # Those of the whole trace stand before its first call.
        return (-1 if not name.call else call[0], call[1], 0, INPUTS.index(name.kind))
    parts = {"embeddings": 1, "final_norm": 3, "logits": 4, "mtp_logits": 6}
    return (*call, parts[name.kind]) if name.kind in parts else (4,)
