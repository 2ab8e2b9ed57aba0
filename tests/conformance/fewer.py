"""Runs that ask fewer cases, under a manifest that requires no more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lingspec.conformance import mustpass, plan


def ask_fewer(
    patch: pytest.MonkeyPatch, folder: Path, *profiles: str, authority: int = 3, default: int = 1
) -> None:
    """Let ``profiles`` ask so few cases; the manifest is in ``folder``."""
    for name in profiles:
        patch.setitem(plan.COUNTS, name, {"authority": authority, "default": default})
    patch.setattr(mustpass, "FOLDER", folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{mustpass.SPEC_VERSION}.json").write_bytes(mustpass.computed())
