"""What the packages `mutants` and `honest` hold: every declared function, by its name.

Importing this module imports torch, never the reference: candidates' processes use it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingspec.conformance.adapter import Declaration, declarations

__all__ = ["KINDS", "Entry", "find", "honest", "load", "mutants"]

KINDS = ("mutants", "honest")
REQUIRED = {"mutants": ("laws", "source", "looks_like"), "honest": ("differs",)}
NEEDS = {"_triton": "triton"}  # a module so named needs that package


@dataclass(frozen=True)
class Entry:
    """One declared implementation."""

    name: str
    function: Callable[..., Any]
    declaration: Declaration
    module: str


def modules(package: str) -> Iterator[str]:
    """Import paths of the package's public modules whose dependencies are installed."""
    home = importlib.import_module(package)
    for found in pkgutil.iter_modules(home.__path__):
        missing = (
            found.name.endswith(ending) and importlib.util.find_spec(needed) is None
            for ending, needed in NEEDS.items()
        )
        if not found.name.startswith("_") and not any(missing):
            yield f"{package}.{found.name}"


def entries(module: str, required: tuple[str, ...]) -> Iterator[Entry]:
    """What one module declares, in the order of its lines."""
    for name, thing in vars(importlib.import_module(module)).items():
        if not inspect.isfunction(thing) or thing.__module__ != module:
            continue
        for declared in declarations(thing):
            lacking = [key for key in required if not declared.extra.get(key)]
            if lacking:
                raise ValueError(f"{module}.{name} declares no {' and no '.join(lacking)}")
            yield Entry(name, thing, declared, module)


def load(kind: str) -> dict[str, Entry]:
    """All entries of ``kind``, one of `KINDS`.

    Raises:
        ValueError: a name is used twice, or a declaration lacks what its kind requires.
    """
    found: dict[str, Entry] = {}
    for module in modules(_package(kind)):
        for entry in entries(module, REQUIRED[kind]):
            if entry.name in found:
                raise ValueError(
                    f"{entry.name} is declared in {found[entry.name].module} and in {module}"
                )
            found[entry.name] = entry
    return found


def find(kind: str, name: str) -> Entry | None:
    """The entry of a name, or None: only the module that defines it is imported.

    Raises:
        ValueError: ``kind`` is none.
    """
    line = re.compile(rf"^def {re.escape(name)}\(", re.MULTILINE)
    for module in modules(_package(kind)):
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None or not line.search(_text(spec.origin)):
            continue
        for entry in entries(module, REQUIRED[kind]):
            if entry.name == name:
                return entry
    return None


def _package(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, but must be one of {', '.join(KINDS)}")
    return f"lingspec.conformance.{kind}"


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def mutants() -> dict[str, Entry]:
    """Every wrong implementation, by its name."""
    return load("mutants")


def honest() -> dict[str, Entry]:
    """Every right implementation beside the reference, by its name."""
    return load("honest")
