"""Authority and emulated variants of an op, from the lines of its reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.accuracy.formats import of_dtype
from lingspec.conformance.accuracy.limits import Limits, limits
from lingspec.conformance.accuracy.profiles import Profile
from lingspec.conformance.accuracy.running import analysing, stored
from lingspec.conformance.accuracy.variants import casting
from lingspec.conformance.case import Call, dtype_of
from lingspec.conformance.contract import TensorSpec
from lingspec.reference import rounding

__all__ = ["Analysis", "tupled", "widened"]

Op = Callable[..., Any]


@dataclass(frozen=True)
class Analysis:
    """What `Contract` needs to know of an op that computes numbers.

    ``op`` is the reference, ``forms`` are further formulations: an implementation may round where
    any of them does, and sum in the order of any.
    """

    op: Op
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    forms: Sequence[Op] = ()

    def authority(self, call: Call, profile: Profile) -> dict[str, Any]:
        """Every output in float64, with its limits."""
        given: dict[str, Any] = {
            n: stored(x, profile) if x.is_floating_point() else x for n, x in call.tensors.items()
        }
        with rounding(analysing(profile)):
            made = [tupled(form(**given, **call.params)) for form in (self.op, *self.forms)]
        return {
            spec.name: self._limits(call, profile, spec, [results[n] for results in made])
            for n, spec in enumerate(self.outputs)
        }

    def _limits(self, call: Call, profile: Profile, spec: TensorSpec, forms: list[Any]) -> Limits:
        heads = spec.axes.find("H")
        return limits(
            spec.name, forms, profile, of_dtype(self.dtype(call, spec)), coherent=call.coherent,
            heads=heads if heads >= 0 and forms[0].dim() == len(spec.axes) else None,
        )  # fmt: skip

    def dtype(self, call: Call, spec: TensorSpec) -> torch.dtype:
        """The dtype that an output of ``call`` must have."""
        kinds = {s.name: s.dtype for s in self.inputs}
        floats = [x.dtype for n, x in call.tensors.items() if kinds.get(n) == "input"]
        wide = [x.dtype for n, x in call.tensors.items() if kinds.get(n) == "state"]
        return dtype_of(spec.dtype, (floats or wide)[0])

    def variants(self, call: Call, profile: Profile) -> list[dict[str, Tensor]]:
        """What honest implementations return: all, none and half of the permitted roundings."""
        every = tuple(profile.points)
        given = widened(call, profile)
        made = []
        for form in (self.op, *self.forms):
            for points in (every, (), every[::2], every[1::2]) if every else ((),):
                with rounding(casting(profile, points)):
                    results = tupled(form(**given, **call.params))
                made.append(
                    {
                        spec.name: results[n].to(self.dtype(call, spec))
                        for n, spec in enumerate(self.outputs)
                    }
                )
        return made


def widened(call: Call, profile: Profile) -> dict[str, Tensor]:
    """The tensors of a call in the dtype that ``profile`` computes in."""
    wide = torch.float64 if profile.arithmetic.u < 2.0**-50 else torch.float32
    return {n: x.to(wide) if x.is_floating_point() else x for n, x in call.tensors.items()}


def tupled(results: Any) -> tuple[Any, ...]:
    """What an op returned, as a tuple."""
    return results if isinstance(results, tuple) else (results,)
