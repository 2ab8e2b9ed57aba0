"""What is installed, and what can run here."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lingspec.conformance.config import defaults
from lingspec.conformance.environment import environment
from lingspec.conformance.runner.targets import ADAPTERS

__all__ = ["examine", "report"]

PACKAGES = {
    "fla": "fla-core", "liger": "liger-kernel", "mlx": "mlx-lm", "sglang": "sglang",
    "transformers": "transformers",
}  # fmt: skip


def examine() -> dict[str, Any]:
    """Versions, devices, adapters, defaults."""
    import torch

    adapters = {}
    for name, remedy in ADAPTERS.items():
        package = PACKAGES.get(name)
        try:
            adapters[name] = version(package) if package else "ships with lingspec"
        except PackageNotFoundError:
            adapters[name] = f"not installed: {remedy}"
    triton = importlib.util.find_spec("triton") is not None
    devices = {
        "cpu": "native"
        + (", and Triton kernels emulated" if triton else "; Triton is not installed"),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device",
    }
    return {
        "ready": hasattr(os, "memfd_create") and hasattr(os, "fork"),
        "environment": environment(),
        "devices": devices,
        "adapters": adapters,
        "defaults": defaults(Path.cwd()),
    }


def report(found: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    for title in ("environment", "devices", "adapters", "defaults"):
        yield title
        for name, value in found[title].items():
            yield f"  {name:<14}{value}"
    yield "ready" if found["ready"] else "not ready: candidates need fork and memfd_create (Linux)"
