"""Versions of everything that a verdict depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["environment"]


def environment(device: str = "cpu") -> dict[str, str]:
    """Versions by name; of a GPU its name, where it is the device."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("lingspec", "torch", "triton", "numpy", "hypothesis"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    if device == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name()
    return found
