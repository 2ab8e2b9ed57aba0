"""One law a file: a property of every right implementation, generic over contracts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from lingspec.conformance import integrity

if TYPE_CHECKING:
    from lingspec.conformance.contract import Contract
    from lingspec.conformance.session import Session

__all__ = ["LAWS", "Law", "law", "sentence"]

NAMES = (
    "authority", "causality", "handover", "packed", "permutation", "homogeneity", "additivity",
    "determinism", "untouched", "strides", "exact", "gradients", "sharding", "invariance",
    "identities", "groups", "bias", "shapes", "sequences", "unread", "scale",
)  # fmt: skip


@dataclass(frozen=True)
class Law:
    """A law, by the name of its file."""

    name: str
    sentence: str
    declared: Callable[[Contract], bool]
    check: Callable[[Session], None]
    whole: bool  # the authority of the case's own call is asked


def law(name: str) -> Law:
    """The law in the file ``name``."""
    module = import_module(f"lingspec.conformance.laws.{name}")
    whole = getattr(module, "WHOLE", True)
    return Law(name, module.SENTENCE, module.declared, module.check, whole)


def sentence(name: str) -> str:
    """What a finding of ``name`` says was broken; integrity is asked with every law."""
    return integrity.SENTENCE if name == "integrity" else law(name).sentence


LAWS = NAMES
