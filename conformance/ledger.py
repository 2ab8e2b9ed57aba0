"""What became of the waivers of a run: which were used, which are fixed, which have expired."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from lingspec.conformance.config import ConfigError
from lingspec.conformance.contracts import contract
from lingspec.conformance.findings import Finding, Verdict
from lingspec.conformance.run import Part, laws_for
from lingspec.conformance.waivers import Waiver, nearest, today

if TYPE_CHECKING:
    from lingspec.conformance.report import PartReport

__all__ = ["Ledger", "Use", "refuse_unmatched", "uses"]

UNJUDGED = ("VOID", "NOT SUPPORTED")


@dataclass(frozen=True)
class Ledger:
    """The waivers of a run, on the day of the run."""

    waivers: tuple[Waiver, ...] = ()
    day: date = field(default_factory=today)

    def covering(self, part: Part, finding: Finding) -> list[Waiver]:
        """The waivers that hold for a finding.

        None does for REJECTED: that is an attempt to deceive, not a failure to wait for.
        """
        if finding.status == "REJECTED":
            return []
        return [
            w for w in self.waivers
            if not w.expired(self.day) and meets(w, part) and w.names(finding.law, finding.case)
        ]  # fmt: skip

    def waives(self, part: Part, verdict: Verdict) -> bool:
        """Whether every finding of a case is waived: one that is not, and the case fails."""
        return bool(verdict.findings) and all(self.covering(part, f) for f in verdict.findings)


@dataclass(frozen=True)
class Use:
    """What became of one waiver.

    ``state`` is ``used``; ``fixed``: cases of its scope were judged, and none failed; ``expired``;
    ``idle``: no case of its scope failed, but not all of them were asked; ``elsewhere``: it is for
    something that a narrowed run did not ask.
    """

    waiver: Waiver
    state: str
    waived: int = 0  # cases
    judged: int = 0  # cases in its scope

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        told = {**self.waiver.as_data(), "state": self.state}
        return {**told, "waived": self.waived, "judged": self.judged}

    def problem(self) -> str:
        """Why a run with this waiver is not clean; nothing where it is."""
        w = self.waiver
        if self.state == "expired":
            return f"expired waiver {w.issue}: it held until {w.expires}; {w.owner} answers for it"
        if self.state == "fixed":
            return f"fixed waiver {w.issue}: none of {self.judged} cases fails; take it out"
        return ""


def meets(waiver: Waiver, part: Part) -> bool:
    """Whether one candidate in one dtype is in the scope of a waiver."""
    return waiver.meets(part.candidate.op, part.candidate.name, part.dtype)


def uses(ledger: Ledger, parts: Sequence[PartReport], *, whole: bool) -> list[Use]:
    """What became of every waiver. ``whole``: every case was asked that the target must pass."""
    return [_use(ledger, waiver, parts, whole) for waiver in ledger.waivers]


def _use(ledger: Ledger, waiver: Waiver, parts: Sequence[PartReport], whole: bool) -> Use:
    mine = [p for p in parts if meets(waiver, p.part)]
    if not mine:
        return Use(waiver, "elsewhere")
    judged = sum(
        v.status not in UNJUDGED and waiver.names(v.law, v.case) for p in mine for v in p.verdicts
    )
    if waiver.expired(ledger.day):
        return Use(waiver, "expired", judged=judged)
    found = waived = 0
    for p in mine:
        for v in p.verdicts:
            covered = any(waiver in ledger.covering(p.part, f) for f in v.findings)
            found += covered
            waived += covered and ledger.waives(p.part, v)
    if found:
        return Use(waiver, "used", waived, max(judged, found))
    return Use(waiver, "fixed" if whole and judged else "idle", judged=judged)


def refuse_unmatched(waivers: Iterable[Waiver], work: Sequence[Part]) -> None:
    """Refuse a waiver for something that the run does not ask: it was mistyped, or is forgotten.

    Raises:
        ConfigError: there is one.
    """
    for waiver in waivers:
        for key, there in (
            ("op", [p.candidate.op for p in work]),
            ("candidate", [p.candidate.name for p in work if p.candidate.op == waiver.op]),
            ("dtype", [p.dtype for p in work if p.candidate.op == waiver.op]),
            ("law", laws_for(contract(waiver.op))),
        ):
            told = getattr(waiver, key)
            if told is not None and told not in there:
                raise ConfigError(
                    f"{waiver.place} ({waiver.issue}) is for {key} {told!r}, which this run does "
                    f"not ask{nearest(told, there)}; it asks {', '.join(dict.fromkeys(there))}"
                )
        if not any(meets(waiver, part) for part in work):
            raise ConfigError(
                f"{waiver.place} ({waiver.issue}) is for {waiver.candidate} in {waiver.dtype}, "
                "which this run does not ask together"
            )
