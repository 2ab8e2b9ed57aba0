"""Which files a candidate is made of."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

__all__ = ["locate", "sources"]


def sources(candidates: list[Any], baseline: set[str]) -> list[list[str]]:
    """(module, file) of every source of ``candidates``.

    The modules that define them; what else was imported from the same top-level package, or from
    the same folder where there is no package; the packages that `implements` names. Compiled
    modules count. What was loaded before the target (torch, Triton, the suite) does not.
    """
    found: dict[str, str] = {}
    for candidate in candidates:
        own = inspect.unwrap(candidate.function)
        module = getattr(own, "__module__", None)
        roots = set(candidate.declared.packages)
        folder = None
        if module in sys.modules:
            found |= _file(module)
            top = module.partition(".")[0]
            if top != "lingspec":
                roots.add(top)
            here = getattr(sys.modules[module], "__file__", None)
            if here and "." not in module:
                folder = Path(here).resolve().parent
        for name, loaded in list(sys.modules.items()):
            place = getattr(loaded, "__file__", None)
            beside = folder is not None and place and Path(place).resolve().parent == folder
            ours = beside or any(name == root or name.startswith(root + ".") for root in roots)
            if ours and name not in baseline:
                found |= _file(name)
    return sorted([name, file] for name, file in found.items())


def _file(name: str) -> dict[str, str]:
    place = getattr(sys.modules[name], "__file__", None)
    return {name: place} if place and Path(place).is_file() else {}


def locate(module: str) -> Path | None:
    """The file of ``module``, found without importing what belongs to the candidate."""
    top, *rest = module.split(".")
    try:
        own = importlib.util.find_spec(module if top == "lingspec" else top)
    except (ImportError, ValueError):
        return None
    if own is None:
        return None
    if top == "lingspec" or not rest:
        return Path(own.origin) if own.origin and Path(own.origin).is_file() else None
    for root in own.submodule_search_locations or ():
        base = Path(root).joinpath(*rest)
        for found in (base.with_suffix(".py"), base / "__init__.py", *base.parent.glob(f"{base.name}.*so")):
            if found.is_file():
                return found
    return None
