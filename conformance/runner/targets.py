"""From the name of a target to candidates; runs in the candidate's process."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from lingspec.conformance.adapter import Declaration, declarations

__all__ = ["ADAPTERS", "Candidate", "TargetError", "load"]

# What ships with us: the adapter's module, and how to get what it needs.
ADAPTERS = {
    "kernels": "",
    "reference": "",
    "fla": "pip install lingspec[fla]",
    "liger": "pip install lingspec[liger]",
    "mlx": "pip install lingspec[mlx]",
    "sglang": "pip install --no-deps sglang==0.5.23",
    "transformers": "pip install lingspec[transformers]",
}


class TargetError(Exception):
    """A target that cannot be had: ``kind`` is ``usage`` or ``environment``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Candidate:
    """One callable for one op."""

    name: str
    function: Any
    declared: Declaration


def load(target: str, op: str | None, *, backward: bool = False) -> list[Candidate]:
    """The candidates of ``target``, for ``op`` only if it is given.

    Raises:
        TargetError: there is no such target, or it cannot be imported.
    """
    sys.path.insert(0, str(Path.cwd()))
    found = _find(target, op, backward)
    if op is not None:
        found = [c for c in found if c.declared.op == op]
    if not found:
        what = f"implements {op}" if op else "is marked with @implements; name its op with --op"
        raise TargetError("usage", f"nothing in {target!r} {what}")
    return _check_packages(found)


def _find(target: str, op: str | None, backward: bool) -> list[Candidate]:
    head, _, attribute = target.partition(":")
    if head in ("mutants", "honest"):
        return _registered(head, attribute)
    if head in ADAPTERS:
        module = _import(f"lingspec.conformance.adapters.{head}", ADAPTERS[head])
        found = _declared(module)
        return [c for c in found if c.name == attribute] if attribute else found
    for point in importlib.metadata.entry_points(group="lingspec.adapters"):
        if point.name == target:
            return _candidates(point.load(), target, op, backward)
    if head.endswith(".py"):
        raise TargetError("usage", _advice(Path(head), attribute))
    if not attribute:
        known = ", ".join((*ADAPTERS, "mutants:NAME", "honest:NAME", "module:attribute"))
        raise TargetError("usage", f"no target {target!r}; there are {known}")
    if not all(part.isidentifier() for part in head.split(".")):
        text = f"target {target!r} is not module:attribute (as package.module:{attribute})"
        raise TargetError("usage", text)
    module = _import(head, "")
    thing: Any = module
    for part in attribute.split("."):
        if not hasattr(thing, part):
            raise TargetError("usage", f"module {head!r} has no attribute {attribute!r}")
        thing = getattr(thing, part)
    return _candidates(thing, attribute, op, backward)


def _advice(file: Path, attribute: str) -> str:
    """What to write instead of a file's name."""
    named = f"{file.stem}:{attribute or 'NAME'}"
    folder = "" if file.parent == Path() else f", with {file.parent} in PYTHONPATH"
    return f"a target is a module and a name in it, not a file: {named}{folder}"


def _candidates(thing: Any, name: str, op: str | None, backward: bool) -> list[Candidate]:
    if isinstance(thing, ModuleType):
        return _declared(thing)
    marked = [Candidate(name, thing, d) for d in declarations(thing)]
    if marked or op is None:
        return marked
    if not callable(thing):
        raise TargetError("usage", f"{name!r} is {type(thing).__name__}, but must be callable")
    return [Candidate(name, thing, Declaration(op, backward=backward))]


def _check_packages(found: list[Candidate]) -> list[Candidate]:
    for package in {p for c in found for p in c.declared.packages}:
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            raise TargetError("usage", f"packages names {package!r}, which is not installed")
    return found


def _declared(module: ModuleType) -> list[Candidate]:
    """What ``module``, or a module inside it, defines."""
    inside = (module.__name__, f"{module.__name__}.")
    own = [
        (n, x)
        for n, x in vars(module).items()
        if (home := getattr(x, "__module__", None) or "") == inside[0] or home.startswith(inside[1])
    ]
    return [Candidate(n, x, d) for n, x in own for d in declarations(x)]


def _registered(kind: str, name: str) -> list[Candidate]:
    """One entry of the registry, or all for ``*``."""
    from lingspec.conformance import registry

    if name == "*":
        entries = list(registry.load(kind).values())
    else:
        entries = [entry for entry in [registry.find(kind, name)] if entry is not None]
    if not entries:
        raise TargetError(
            "usage", f"no target '{kind}:{name}'; `lingspec self-test --list` names all"
        )
    found = []
    for entry in entries:
        cost = "interpreted" if entry.module.endswith("_triton") else "native"
        declared = replace(entry.declaration, cost=entry.declaration.cost or cost)
        found.append(Candidate(entry.name, entry.function, declared))
    return found


def _import(module: str, remedy: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        hint = f"; `{remedy}`" if remedy else ""
        kind = "environment" if remedy else "usage"
        name = module.rpartition(".")[2] if remedy else module
        text = f"target {name!r} cannot be imported: {missing}{hint}"
        raise TargetError(kind, text) from missing
    except Exception as broken:
        text = f"target {module!r} cannot be imported: {type(broken).__name__}: {broken}"
        raise TargetError("usage", text.splitlines()[0]) from broken
