"""Defaults from `[tool.lingspec]` in pyproject.toml; unknown keys are errors."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["KEYS", "ConfigError", "defaults"]

KEYS = {
    "target": str, "profile": str, "device": str, "precision": str, "seed": int, "out": str,
    "workers": int, "timeout": float, "memory": float, "waivers": str,
}  # fmt: skip


# What a value may be, where its type does not say it.
MAY_BE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "profile": (lambda x: x in ("smoke", "ci", "full"), "smoke, ci or full"),
    "device": (lambda x: x in ("cpu", "cuda"), "cpu or cuda"),
    "seed": (lambda x: x >= 0, "an integer >= 0"),
    "workers": (lambda x: x >= 1, "an integer >= 1"),
    "timeout": (lambda x: 1 <= x < math.inf, "a number of seconds >= 1"),
    "memory": (lambda x: 1 <= x <= 1 << 20, "a number of GiB >= 1"),
    "target": (bool, "a target"),
    "out": (bool, "a folder"),
    "waivers": (bool, "a file"),
}


class ConfigError(ValueError):
    """A key or value in pyproject.toml that lingspec does not know."""


def defaults(folder: Path) -> dict[str, Any]:
    """The table of the nearest pyproject.toml at or above ``folder``; empty where there is none.

    Raises:
        ConfigError: a key is unknown or has the wrong type.
    """
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if file.is_file():
            table = _table(file)
            if "waivers" in table:  # beside it, wherever lingspec is called
                table["waivers"] = str(place / table["waivers"])
            return table
    return {}


def _table(file: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("lingspec", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as broken:
        raise ConfigError(f"{file}: {broken}") from broken
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: [tool.lingspec] is {table!r}, but must be a table")
    for key, value in table.items():
        if key not in KEYS:
            raise ConfigError(
                f"{file}: [tool.lingspec] has key {key!r}, but knows only {', '.join(KEYS)}"
            )
        wanted = (int, float) if KEYS[key] is float else KEYS[key]
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ConfigError(
                f"{file}: [tool.lingspec] {key} is {value!r}, but must be {KEYS[key].__name__}"
            )
        allowed, words = MAY_BE.get(key, (lambda _: True, ""))
        if not allowed(value):
            raise ConfigError(f"{file}: [tool.lingspec] {key} is {value!r}, but must be {words}")
    return dict(table)
