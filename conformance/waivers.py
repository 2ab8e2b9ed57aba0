"""Waivers: failures that somebody answers for, until a day. What is not understood is an error."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lingspec.conformance.case import DTYPES
from lingspec.conformance.config import ConfigError
from lingspec.conformance.contracts import OPS
from lingspec.conformance.laws import LAWS
from lingspec.conformance.run import SHORT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SCOPE", "Waiver", "read", "today"]

REQUIRED = ("issue", "reason", "owner", "expires", "op")
SCOPE = ("op", "law", "dtype", "candidate", "cases")
KEYS = (*REQUIRED, *SCOPE[1:])


@dataclass(frozen=True)
class Waiver:
    """Who answers for which failures, why, and until when.

    The scope is ``op`` and what else is given: the law that is broken, the dtype, the candidate's
    name, a glob over the strings of cases.
    """

    issue: str
    reason: str
    owner: str
    expires: date  # the last day on which it holds
    op: str
    law: str | None = None
    dtype: str | None = None
    candidate: str | None = None
    cases: str | None = None
    place: str = field(default="", compare=False)  # where it stands, for messages

    def meets(self, op: str, candidate: str, dtype: str) -> bool:
        """Whether a candidate in a dtype is in its scope."""
        return (
            self.op == op
            and self.dtype in (None, dtype)
            and self.candidate in (None, candidate)
        )  # fmt: skip

    def names(self, law: str, case: str) -> bool:
        """Whether a law, broken or asked by a case, is in its scope."""
        return self.law in (None, law) and (self.cases is None or fnmatchcase(case, self.cases))

    def expired(self, day: date) -> bool:
        """Whether it has ceased to hold on ``day``."""
        return day > self.expires

    def scope(self) -> dict[str, str]:
        """What it is for, by key."""
        return {key: told for key in SCOPE if (told := getattr(self, key)) is not None}

    def as_data(self) -> dict[str, str]:
        """The whole waiver for JSON."""
        told = {"issue": self.issue, "reason": self.reason, "owner": self.owner}
        return {**told, "expires": self.expires.isoformat(), **self.scope()}

    @classmethod
    def of_data(cls, told: Mapping[str, Any]) -> Waiver:
        """The waiver that `as_data` told.

        Raises:
            ConfigError: it is none.
        """
        given = dict(told)
        try:
            given["expires"] = date.fromisoformat(given["expires"])
        except (KeyError, TypeError, ValueError):
            raise ConfigError(f"waiver {told!r} has no date in expires") from None
        return _checked(given, f"waiver {given.get('issue')!r}")

    def __str__(self) -> str:
        scope = ", ".join(self.scope().values())
        return f"{self.issue} ({scope}): {self.reason}; {self.owner}, until {self.expires}"


def today() -> date:
    """The day, the same everywhere."""
    return datetime.now(timezone.utc).date()


def read(file: Path) -> tuple[Waiver, ...]:
    """The waivers of a file.

    Raises:
        ConfigError: it is not TOML, or says something that no waiver says, or lacks something.
        OSError: it cannot be read.
    """
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no file of waivers {file}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as broken:
        raise ConfigError(f"{file}: {broken}") from broken
    _known(told, ("waiver",), str(file))
    entries = told.get("waiver", [])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ConfigError(f"{file}: waiver is {entries!r}, but must be tables, each [[waiver]]")
    return tuple(_checked(entry, f"{file}: waiver {n}") for n, entry in enumerate(entries, 1))


def _checked(entry: Mapping[str, Any], place: str) -> Waiver:
    _known(entry, KEYS, place)
    for key in REQUIRED:
        if key not in entry:
            raise ConfigError(f"{place} has no {key}; a waiver has {', '.join(REQUIRED)}")
    for key, value in entry.items():
        if key != "expires" and (not isinstance(value, str) or not value.strip()):
            raise ConfigError(f"{place} has {key} {value!r}, but must have a text that says it")
    expires = entry["expires"]
    if not isinstance(expires, date) or isinstance(expires, datetime):
        raise ConfigError(f"{place} has expires {expires!r}, but must have a date, as 2026-12-31")
    given = {**entry, "dtype": SHORT.get(entry.get("dtype", ""), entry.get("dtype"))}
    for key, there in (("op", OPS), ("law", LAWS), ("dtype", tuple(DTYPES))):
        if given.get(key) is not None:
            _among(given[key], key, there, place)
    return Waiver(**given, place=place)


def _known(table: Mapping[str, Any], keys: tuple[str, ...], place: str) -> None:
    for key in table:
        if key not in keys:
            raise ConfigError(
                f"{place} has key {key!r}{nearest(key, keys)}; there are {', '.join(keys)}"
            )


def _among(name: str, kind: str, there: tuple[str, ...], place: str) -> None:
    if name not in there:
        raise ConfigError(
            f"{place} has {kind} {name!r}{nearest(name, there)}; there are {', '.join(there)}"
        )


def nearest(word: str, there: Iterable[str]) -> str:
    """What was perhaps meant, as a clause; nothing where nothing is near."""
    near = difflib.get_close_matches(word, list(there), 1)
    return f", perhaps {near[0]!r}" if near else ""
