"""Golden outputs of the ops: small, exact in text, made by a command and never by hand.

Inputs come from integer arithmetic, so every machine has the same ones. An entry either holds
"bits", where nothing can round, or is close to 1e-12, where exp and the order of a sum may differ
by an ulp of float64 between machines.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingspec.reference import lightning_attention, lightning_decode, lightning_log_decay

__all__ = ["DATA", "ENTRIES", "Entry", "check", "record"]

DATA = Path(__file__).parent / "data"
CLOSE = 1e-12  # float64: fewer than 200 terms of order 1, each within 2^-53


@dataclass(frozen=True)
class Entry:
    """One golden: a name, how it is made, and how exactly it must come out again."""

    name: str
    make: Callable[[], dict[str, Tensor]]
    agreement: str  # "bits" or "close"
    because: str


def integers(shape: tuple[int, ...], seed: int) -> Tensor:
    """Whole numbers from -4 to 4, from a linear congruential sequence."""
    state, values = seed % (1 << 32), []
    for _ in range(int(torch.tensor(shape).prod())):
        state = (1664525 * state + 1013904223) % (1 << 32)
        values.append((state >> 20) % 9 - 4)
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def _attention(lengths: list[int] | None, log_decay: list[float], unit: float) -> dict[str, Tensor]:
    B, T, H, K, V = (2, 9, 3, 5, 4) if lengths is None else (1, sum(lengths), 3, 5, 4)
    ends = (
        None
        if lengths is None
        else torch.tensor([sum(lengths[:n]) for n in range(len(lengths) + 1)])
    )
    N = B if lengths is None else len(lengths)
    o, state = lightning_attention(
        unit * integers((B, T, H, K), 1), unit * integers((B, T, H, K), 2),
        unit * integers((B, T, H, V), 3), torch.tensor(log_decay, dtype=torch.float64),
        scale=0.5, initial_state=unit * integers((N, H, K, V), 4), cu_seqlens=ends,
    )  # fmt: skip
    return {"o": o, "final_state": state}


def _decode(log_decay: list[float], unit: float) -> dict[str, Tensor]:
    B, H, K, V, P = 4, 3, 5, 4, 6
    pool = unit * integers((P, H, K, V), 4)
    o = lightning_decode(
        unit * integers((B, H, K), 1), unit * integers((B, H, K), 2), unit * integers((B, H, V), 3),
        torch.tensor(log_decay, dtype=torch.float64), pool, torch.tensor([5, -1, 0, 3]), scale=0.5,
    )  # fmt: skip
    return {"o": o, "state_pool": pool}


def _slopes() -> dict[str, Tensor]:
    sizes = [
        (64, 0, 80),
        (64, 1, 80),
        (64, 78, 80),
        (32, 30, 32),
        (16, 0, 20),
        (6, 1, 8),
        (40, 3, 9),
    ]
    return {
        f"heads {h}, layer {i} of {n}, origin {origin}": lightning_log_decay(h, i, n, origin=origin)
        for h, i, n in sizes
        for origin in (1, 0)
    }


EXACT = "small integers, a scale of 1/2 and factors of 1 or 0: no operation rounds"
FADES, GONE = [-0.25, -0.0625, -1.5], [0.0, -1e4, 0.0]
ENTRIES = (
    Entry("lightning_log_decay/released_and_training_origins", _slopes, "bits",
          "the bits of the slopes are part of the specification"),
    Entry("lightning_attention/integers", lambda: _attention(None, GONE, 1.0), "bits", EXACT),
    Entry("lightning_attention/integers_packed", lambda: _attention([3, 0, 1, 5], GONE, 1.0),
          "bits", EXACT),
    Entry("lightning_attention/decaying", lambda: _attention(None, FADES, 0.125), "close",
          "exp and the order of sums over K"),
    Entry("lightning_decode/integers_with_padding", lambda: _decode(GONE, 1.0), "bits", EXACT),
    Entry("lightning_decode/decaying", lambda: _decode(FADES, 0.125), "close",
          "exp and the order of sums over K"),
)  # fmt: skip


def check(entry: Entry) -> str | None:
    """What differs from the stored output, in words; None if nothing does."""
    file = _file(entry)
    if not file.is_file():
        return f"{entry.name} is not stored"
    stored, now = json.loads(file.read_text())["tensors"], _told(entry.make())
    if stored.keys() != now.keys():
        return f"{entry.name} has tensors {sorted(now)}, but {sorted(stored)} are stored"
    for name, told in now.items():
        was = stored[name]
        if (told["dtype"], told["shape"]) != (was["dtype"], was["shape"]):
            kinds = [f"{x['dtype']} {x['shape']}" for x in (told, was)]
            return f"{entry.name}: {name} is {kinds[0]}, was {kinds[1]}"
        for n, (a, b) in enumerate(zip(told["hex"], was["hex"], strict=True)):
            x, y = float.fromhex(a), float.fromhex(b)
            far = x != y if entry.agreement == "bits" else abs(x - y) > CLOSE * max(1.0, abs(y))
            if far:
                return f"{entry.name}: {name}, element {n}, is {a}, was {b} ({entry.agreement})"
    return None


def record(entry: Entry, reason: str) -> Path:
    """Store the output of now; ``reason`` is kept with it."""
    made_by: dict[str, Any] = {"torch": torch.__version__, "machine": platform.machine()}
    body = {
        "schema": "lingspec.golden/1", "entry": entry.name, "agreement": entry.agreement,
        "because": entry.because, "made_by": made_by, "why_changed": reason,
        "tensors": _told(entry.make()),
    }  # fmt: skip
    file = _file(entry)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(body, indent=1) + "\n")
    return file


def _file(entry: Entry) -> Path:
    return DATA / f"{entry.name}.json"


def _told(tensors: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "dtype": str(x.dtype).removeprefix("torch."),
            "shape": list(x.shape),
            "hex": [float(v).hex() for v in x.double().flatten().tolist()],
        }
        for name, x in tensors.items()
    }
