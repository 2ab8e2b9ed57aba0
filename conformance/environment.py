"""Versions of everything that a verdict depends on."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, version

__all__ = ["environment"]


OURS = ("lingspec", "torch", "triton", "numpy", "hypothesis")


def environment(device: str = "cpu", modules: Iterable[str] = ()) -> dict[str, str]:
    """Versions by name; of a GPU its name, where it is the device.

    ``modules`` are those of the candidate: the packages that they come in are named as well.
    """
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in (*OURS, *_packages(modules)):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    if device == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name()
    return found


def _packages(modules: Iterable[str]) -> list[str]:
    installed = packages_distributions()
    tops = {name.partition(".")[0] for name in modules}
    return sorted({d for top in tops for d in installed.get(top, ())} - set(OURS))
