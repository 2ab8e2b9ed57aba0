"""What a run came to: for each op and dtype, and as one verdict with its exit code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lingspec.conformance.accuracy.power import ALWAYS, REJECTIONS, unproven
from lingspec.conformance.contracts import contract
from lingspec.conformance.findings import Finding, Verdict
from lingspec.conformance.run import Part, laws_for

__all__ = ["Options", "PartReport", "Report"]

# Laws that ask for the right results of a plain call: they are broken whatever is wrong.
PLAIN = ("authority", "untouched", "strides")


@dataclass(frozen=True)
class Options:
    """What `lingspec certify` was asked."""

    target: str = "kernels"
    ops: tuple[str, ...] = ()
    profile: str = "ci"
    device: str = "cpu"
    seed: int | None = None
    precision: str | None = None
    backward: bool = False
    workers: int = 1
    shard: tuple[int, int] = (1, 1)
    timeout: float = 60.0
    memory: float | None = None  # GiB that a candidate's process may take
    fail_fast: bool = False  # a law is not asked again in a dtype that broke it
    laws: tuple[str, ...] = ()  # only these


@dataclass
class PartReport:
    """What one candidate came to in one dtype."""

    part: Part
    verdicts: list[Verdict] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # cases, by law, not asked

    @property
    def op(self) -> str:
        """The op that was judged."""
        return self.part.candidate.op

    def laws(self) -> dict[str, Counter[str]]:
        """Statuses of the cases of each law."""
        made: dict[str, Counter[str]] = {law: Counter() for law in laws_for(contract(self.op))}
        for verdict in self.verdicts:
            made[verdict.law][verdict.status] += 1
        return made

    def findings(self) -> list[Finding]:
        """All findings, in the order of the laws."""
        order = {law: n for n, law in enumerate(laws_for(contract(self.op)))}
        found = [f for v in self.verdicts for f in v.findings]
        return sorted(found, key=lambda f: order.get(f.law, 99 if f.status != "REJECTED" else -1))

    def first(self) -> Finding | None:
        """The finding that says most: of integrity, else of a law where the call was right."""
        order = {law: n for n, law in enumerate(laws_for(contract(self.op)))}
        found = [(v, f) for v in self.verdicts for f in v.findings]

        def rank(pair: tuple[Verdict, Finding]) -> tuple[bool, bool, bool, int]:
            verdict, finding = pair
            wrong_anyway = any(f.law in PLAIN for f in verdict.findings)
            return (
                finding.status != "REJECTED",
                wrong_anyway,
                verdict.law != finding.law,
                order.get(finding.law, len(order)),
            )

        return min(found, key=rank)[1] if found else None

    def power(self) -> dict[str, int]:
        """How many cases rejected each degenerate; nothing where every bit is compared.

        Cases of the law authority show it; nothing is said where none was asked.
        """
        if contract(self.op).algebra.bits or not self.laws()["authority"]:
            return {}
        kills = Counter(name for v in self.verdicts for name in v.killed)
        asked = dict.fromkeys(name for v in self.verdicts for name in v.applicable)
        return {name: kills[name] for name in (asked or dict.fromkeys(ALWAYS))}

    def status(self, profile: str) -> str:
        """PASS, FAIL, REJECTED, or why none can be said: VOID."""
        statuses = Counter(v.status for v in self.verdicts)
        if statuses["REJECTED"]:
            return "REJECTED"
        if any(statuses[s] for s in ("FAIL", "CRASH", "TIMEOUT")):
            return "FAIL"
        idle = [law for law, seen in self.laws().items() if seen["VOID"] and not seen["PASS"]]
        if idle or not statuses["PASS"] or self.unproven(profile):
            return "VOID"
        return "PASS"

    def unproven(self, profile: str) -> list[str]:
        """Degenerates that too few cases rejected."""
        return unproven(self.power(), 1 if profile == "smoke" else REJECTIONS)

    def untold(self, profile: str) -> list[str]:
        """Less precise results that this run did not tell from right ones."""
        least = 1 if profile == "smoke" else REJECTIONS
        weak = [n for n, kills in self.power().items() if kills < least]
        return [n for n in weak if n not in self.unproven(profile)]


@dataclass
class Report:
    """What a run came to."""

    options: Options
    seed: int
    subjects: list[dict[str, Any]]
    parts: list[PartReport]

    def status(self) -> str:
        """The verdict on the target."""
        statuses = [p.status(self.options.profile) for p in self.parts]
        for status in ("REJECTED", "FAIL"):
            if status in statuses:
                return status
        return "PASS" if statuses and all(s == "PASS" for s in statuses) else "VOID"

    def exit_code(self) -> int:
        """0 conforms, 1 does not, 3 cannot be said."""
        return {"PASS": 0, "FAIL": 1, "REJECTED": 1, "VOID": 3}[self.status()]

    @property
    def device(self) -> str:
        """Where it ran, in the word of the certificate."""
        devices = {self.device_of(p) for p in self.parts}
        return "emulated" if "emulated" in devices else self.options.device

    def device_of(self, part: PartReport) -> str:
        """Where one candidate ran: ``emulated`` if it launched kernels without a GPU."""
        launched = any(v.launches for v in part.verdicts)
        return "emulated" if launched and self.options.device == "cpu" else self.options.device

    @property
    def complete(self) -> bool:
        """Whether this run may certify."""
        return not self.insufficient

    @property
    def insufficient(self) -> str:
        """Why this run may not certify, whatever it found."""
        if self.options.shard != (1, 1):
            return "a shard"
        if self.options.laws:
            return f"law {', '.join(self.options.laws)} alone"
        return "profile smoke" if self.options.profile == "smoke" else ""
