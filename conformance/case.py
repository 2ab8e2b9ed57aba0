"""A case: one concrete input, as a few words that anybody can turn into it again.

lightning_attention:handover.bf16.B1.T65.H4.K16.V24.state.slopes.normal.dense.cut33.9f3c
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.runner.arena import as_bytes, laid_as

__all__ = ["DTYPES", "Call", "Case", "CaseError", "dtype_of"]

DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16,
}  # fmt: skip


def dtype_of(kind: str, inputs: torch.dtype) -> torch.dtype:
    """The dtype of a tensor of ``kind`` (`TensorSpec`) where the inputs are ``inputs``."""
    if kind == "input":
        return inputs
    if kind == "state":
        return torch.float64 if inputs == torch.float64 else torch.float32
    made: torch.dtype = torch.int64 if kind == "index" else getattr(torch, kind)
    return made


_AXIS = re.compile(r"([A-Z])(\d+)")
_LENGTHS = re.compile(r"n((?:\d+(?:-\d+)*)?)")
_CUT = re.compile(r"cut(\d+)")


class CaseError(ValueError):
    """A string that is not a case."""


@dataclass(frozen=True)
class Case:
    """What a call is made of; `Contract.make` turns it into tensors.

    ``traits`` names one choice of each kind that the contract offers (value family, decays,
    layout), ``flags`` what is present (an initial state, gradients). ``cut`` is where laws cut.
    """

    op: str
    dtype: str  # a key of DTYPES
    axes: Mapping[str, int]
    traits: Mapping[str, str] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()
    lengths: tuple[int, ...] | None = None  # packed sequences
    cut: int = 0
    seed: int = 0
    law: str | None = None

    def __str__(self) -> str:
        words = [self.law] if self.law else []
        words.append(self.dtype)
        words += [f"{axis}{n}" for axis, n in self.axes.items()]
        if self.lengths is not None:
            words.append("n" + "-".join(map(str, self.lengths)))
        words += [*sorted(self.flags), *self.traits.values()]
        if self.cut:
            words.append(f"cut{self.cut}")
        return f"{self.op}:{'.'.join(words)}.{self.seed:x}"

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the float inputs."""
        return DTYPES[self.dtype]

    def with_(self, **changes: Any) -> Case:
        """This case with some fields changed."""
        return replace(self, **changes)

    def described(self) -> dict[str, Any]:
        """What an adapter's `supports` is shown: not which law asks, nor how values are drawn."""
        axes = dict(self.axes)
        if self.lengths is not None:
            axes |= {"B": 1, "T": sum(self.lengths), "N": len(self.lengths)}
        axes.setdefault("N", axes.get("B", 1))
        return {
            **axes, "op": self.op, "dtype": str(self.torch_dtype).removeprefix("torch."),
            "packed": self.lengths is not None, "has_state": "state" in self.flags,
            "grad": self.law == "gradients",
            **{k: v for k, v in self.traits.items() if k not in ("values", "layout")},
        }  # fmt: skip

    @classmethod
    def parse(
        cls, text: str, vocabulary: Mapping[str, tuple[str, ...]], flags: tuple[str, ...],
        laws: tuple[str, ...],
    ) -> Case:  # fmt: skip
        """The case that ``text`` names; the contract's words are needed to read it.

        Raises:
            CaseError: a word is unknown, or one is missing.
        """
        op, _, rest = text.partition(":")
        *words, seed = rest.split(".")
        kinds = {word: kind for kind, members in vocabulary.items() for word in members}
        made: dict[str, Any] = {"axes": {}, "traits": {}, "flags": set()}
        for n, word in enumerate(words):
            if word in words[:n]:
                raise CaseError(f"case {text!r} has word {word!r} twice")
            if word in DTYPES:
                _once(text, "dtype", made)
                made["dtype"] = word
            elif word in laws:
                _once(text, "law", made)
                made["law"] = word
            elif word in flags:
                made["flags"].add(word)
            elif word in kinds:
                _once(text, kinds[word], made["traits"])
                made["traits"][kinds[word]] = word
            elif match := _AXIS.fullmatch(word):
                _once(text, match[1], made["axes"])
                made["axes"][match[1]] = int(match[2])
            elif match := _LENGTHS.fullmatch(word):
                _once(text, "lengths", made)
                made["lengths"] = tuple(map(int, match[1].split("-"))) if match[1] else ()
            elif match := _CUT.fullmatch(word):
                _once(text, "cut", made)
                made["cut"] = int(match[1])
            else:
                raise CaseError(f"case {text!r} has word {word!r}, which {op} does not know")
        missing = [k for k in vocabulary if k not in made["traits"]]
        if words:  # else nothing is there at all, and the seed is the least of it
            made["seed"] = _seed(text, seed)
        if "dtype" not in made or missing:
            raise CaseError(f"case {text!r} lacks {', '.join(missing) or 'a dtype'}")
        made["flags"] = frozenset(made["flags"])
        return cls(op=op, **made)


def _seed(text: str, seed: str) -> int:
    try:
        return int(seed if seed.isalnum() else "", 16)
    except ValueError:
        raise CaseError(
            f"case {text!r} ends in {seed!r}, but must end in its seed, hexadecimal"
        ) from None


def _once(text: str, kind: str, made: Mapping[str, Any]) -> None:
    if kind in made:
        raise CaseError(f"case {text!r} has two words for {kind}")


@dataclass(frozen=True)
class Call:
    """The arguments of one call of an op: tensors by name, in order, and numbers."""

    op: str
    tensors: dict[str, Tensor]
    params: dict[str, Any]
    coherent: bool = False  # equal inputs repeat, so roundings do too: no statistics
    cotangents: dict[str, Tensor] = field(default_factory=dict)  # "d" and the name of a result
    wrt: tuple[str, ...] = ()  # what gradients are asked with respect to
    far: dict[str, int] = field(default_factory=dict)  # by tensor, the axis that spans 2^31

    @cached_property
    def digest(self) -> str:
        """A name for the values: equal for calls that must give equal results."""
        hashed = hashlib.sha256(f"{self.op}{self.params}{self.wrt}".encode())
        for name, x in {**self.tensors, **self.cotangents}.items():
            hashed.update(f"{name}{x.dtype}{tuple(x.shape)}".encode())
            hashed.update(as_bytes(x).numpy().tobytes())
        return hashed.hexdigest()

    def with_tensors(self, **changes: Tensor) -> Call:
        """This call with some tensors replaced, each laid out in memory as the one before it.

        A right kernel may have other bits for other strides: another loop, another library call.
        """
        laid = {n: laid_as(x, self.tensors.get(n, x)) for n, x in changes.items()}
        return replace(self, tensors={**self.tensors, **laid})
