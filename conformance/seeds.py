"""A seed that several shards share: drawn after the candidate's files were hashed, in a file."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingspec.conformance.config import ConfigError

__all__ = ["Draw", "draw", "read", "write"]

SCHEMA = "lingspec.seed/1"


@dataclass(frozen=True)
class Draw:
    """A seed and what it was drawn for."""

    target: str
    subjects: tuple[tuple[str, str], ...]  # name and SHA-256 of every source file
    seed: int
    file: str = ""

    def refuse_others(self, target: str, subjects: list[dict[str, Any]]) -> None:
        """Refuse a candidate that is not the one that the seed was drawn for.

        Raises:
            ConfigError: the target is another, or one of its files is.
        """
        if target != self.target:
            raise ConfigError(f"{self.file} is a seed for {self.target}, but target is {target}")
        ours = set(_named(subjects))
        for name, _ in sorted(ours ^ set(self.subjects)):
            raise ConfigError(
                f"{self.file} is a seed for other files than are here: {name} differs; draw again"
            )


def draw(target: str, subjects: list[dict[str, Any]]) -> Draw:
    """A fresh seed for files that have been hashed."""
    return Draw(target, _named(subjects), secrets.randbits(32))


def write(drawn: Draw, file: Path) -> None:
    """Write a seed. Never over another: one that may be drawn again until it suits is chosen.

    Raises:
        ConfigError: there is a file.
        OSError: it cannot be written.
    """
    body = {
        "schema": SCHEMA, "target": drawn.target, "seed": drawn.seed,
        "subjects": [list(subject) for subject in drawn.subjects],
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as out:
            json.dump({**body, "seal": _seal(body)}, out, indent=1)
            out.write("\n")
    except FileExistsError:
        raise ConfigError(f"{file} is there already; a seed is drawn once") from None


def read(file: Path) -> Draw:
    """The seed of a file.

    Raises:
        ConfigError: there is none, or it was changed.
        OSError: it cannot be read.
    """
    try:
        body = json.loads(file.read_bytes())
        seal = body.pop("seal")
        subjects = tuple((str(name), str(digest)) for name, digest in body["subjects"])
        drawn = Draw(str(body["target"]), subjects, int(body["seed"]), str(file))
        known = body["schema"] == SCHEMA
    except FileNotFoundError:
        raise ConfigError(f"no seed file {file}; `lingspec seed` writes one") from None
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        raise ConfigError(f"{file} is not a seed file of lingspec: {broken!r}") from broken
    if not known or seal != _seal(body):
        raise ConfigError(f"{file} was changed after it was written: its seal does not fit")
    return drawn


def _named(subjects: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((s["name"], s["digest"]["sha256"]) for s in subjects))


def _seal(body: dict[str, Any]) -> str:
    told = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()
