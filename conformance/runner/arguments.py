"""Arguments that are made of several tensors: mappings, objects, lists of objects."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

__all__ = ["field", "nested"]


def nested(given: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of one head, ``weights.norm``: a mapping, an object, or a list of objects."""
    made = {n: x for n, x in given.items() if "." not in n}
    for head, kind in kinds.items():
        inside = {n.partition(".")[2]: x for n, x in given.items() if n.startswith(f"{head}.")}
        if kind == "mapping":
            made[head] = inside
        elif inside and kind == "objects":
            by_number: dict[int, dict[str, Any]] = {}
            for name, x in inside.items():
                number, _, held = name.partition(".")
                by_number.setdefault(int(number), {})[held] = x
            made[head] = [SimpleNamespace(**by_number[n]) for n in sorted(by_number)]
        elif inside:
            made[head] = SimpleNamespace(**inside)
    return made


def field(holder: Any, name: str) -> Any:
    """What a call left in a field of an argument; None where it took the field away."""
    *numbers, held = name.split(".")[1:]
    for number in numbers:
        holder = holder[int(number)] if int(number) < len(holder) else None
    return getattr(holder, held, None)
