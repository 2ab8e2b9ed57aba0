"""What a run came to: for each op and dtype, and as one verdict with its exit code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lingspec.conformance.accuracy.power import ALWAYS, REJECTIONS, unproven
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.environment import environment
from lingspec.conformance.findings import Finding, Verdict
from lingspec.conformance.ledger import Ledger, Use, uses
from lingspec.conformance.mustpass import CERTIFYING, required
from lingspec.conformance.run import Part, laws_for
from lingspec.conformance.seeds import Draw
from lingspec.conformance.waivers import Waiver

__all__ = ["Options", "PartReport", "Report"]

# Laws that ask for the right results of a plain call: they are broken whatever is wrong.
PLAIN = ("authority", "untouched", "strides")
FAILURES = ("FAIL", "CRASH", "TIMEOUT", "REJECTED")


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
    waivers: tuple[Waiver, ...] = ()
    draw: Draw | None = None  # a seed drawn after the candidate's files were hashed

    @property
    def narrowed(self) -> bool:
        """Whether less is asked than the target offers."""
        return bool(self.shard != (1, 1) or self.ops or self.laws or self.precision)


@dataclass
class PartReport:
    """What one candidate came to in one dtype. ``shard``: of some of its cases only."""

    part: Part
    verdicts: list[Verdict] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # cases, by law, not asked
    ledger: Ledger = field(default_factory=Ledger)
    shard: bool = False
    smallest: Finding | None = None  # the first failure again, in the smallest case that shows it
    looks_like: str = ""  # the known mistake that explains it

    @property
    def op(self) -> str:
        """The op that was judged."""
        return self.part.candidate.op

    @property
    def worst(self) -> float:
        """The largest error over its limit, in all cases that count."""
        return max((v.worst for v in self.verdicts if self.status_of(v) != "WAIVED"), default=0.0)

    def status_of(self, verdict: Verdict) -> str:
        """The status of one case: WAIVED if all that it found is waived."""
        return "WAIVED" if self.ledger.waives(self.part, verdict) else verdict.status

    def laws(self) -> dict[str, Counter[str]]:
        """Statuses of the cases of each law, those included that others stand in for."""
        made: dict[str, Counter[str]] = {law: Counter() for law in laws_for(contract(self.op))}
        for verdict in self.verdicts:
            made[verdict.law][self.status_of(verdict)] += 1
            if verdict.instead:
                made[verdict.law]["NOT SUPPORTED"] += 1
        return made

    def findings(self) -> list[Finding]:
        """All findings that are not waived, in the order of the laws."""
        return sorted((f for _, f in self._found(waived=False)), key=self._place)

    def waived(self) -> list[tuple[Finding, Waiver]]:
        """All findings that are, each with the first waiver that holds for it."""
        found = sorted((f for _, f in self._found(waived=True)), key=self._place)
        return [(f, self.ledger.covering(self.part, f)[0]) for f in found]

    def first(self) -> Finding | None:
        """The finding that says most: of integrity, else of a law where the call was right."""

        def rank(pair: tuple[Verdict, Finding]) -> tuple[bool, bool, bool, int]:
            verdict, finding = pair
            wrong_anyway = any(f.law in PLAIN for f in verdict.findings)
            place = self._place(finding)
            return finding.status != "REJECTED", wrong_anyway, verdict.law != finding.law, place

        found = self._found(waived=False)
        return min(found, key=rank)[1] if found else None

    def _found(self, *, waived: bool) -> list[tuple[Verdict, Finding]]:
        return [
            (v, f) for v in self.verdicts for f in v.findings
            if bool(self.ledger.covering(self.part, f)) == waived
        ]  # fmt: skip

    def _place(self, finding: Finding) -> int:
        order = laws_for(contract(self.op))
        return order.index(finding.law) if finding.law in order else len(order)

    def power(self) -> dict[str, int]:
        """How many cases rejected each degenerate; nothing where every bit is compared.

        Cases of the law authority show it, and of others where those are too few; nothing is said
        where none was asked.
        """
        if contract(self.op).algebra.bits or not self.laws()["authority"]:
            return {}
        kills = Counter(name for v in self.verdicts for name in v.killed)
        asked = dict.fromkeys(name for v in self.verdicts for name in v.applicable)
        return {name: kills[name] for name in (asked or dict.fromkeys(ALWAYS))}

    def status(self, profile: str) -> str:
        """PASS, FAIL, REJECTED, or why none can be said: VOID. All shards together prove power."""
        statuses = Counter(self.status_of(v) for v in self.verdicts)
        if statuses["REJECTED"]:
            return "REJECTED"
        if any(statuses[s] for s in FAILURES):
            return "FAIL"
        if self.shard:
            return "PASS"
        if self.idle() or not statuses["PASS"] or self.unproven(profile):
            return "VOID"
        return "PASS"

    def idle(self) -> list[str]:
        """Laws that were asked, and in no case had anything to say."""
        return [law for law, seen in self.laws().items() if seen["VOID"] and not seen["PASS"]]

    def unproven(self, profile: str) -> list[str]:
        """Degenerates that too few cases rejected."""
        return unproven(self.power(), 1 if profile == "smoke" else REJECTIONS)

    def untold(self, profile: str) -> list[str]:
        """Less precise results that this run did not tell from right ones."""
        least = 1 if profile == "smoke" else REJECTIONS
        weak = [n for n, kills in self.power().items() if kills < least]
        return [n for n in weak if n not in self.unproven(profile)]

    def missing(self, profile: str) -> dict[str, tuple[int, int]]:
        """By law, how many cases were not asked, of how many: of the run, and of the manifest."""
        asked = Counter(v.law for v in self.verdicts)
        wanted = {law: asked[law] + n for law, n in self.left_out.items()}
        if profile in CERTIFYING and not self.shard:
            for law, n in (required(profile, self.op) or {}).items():
                wanted[law] = max(n, wanted.get(law, 0))
        return {law: (n - asked[law], n) for law, n in wanted.items() if n > asked[law]}


@dataclass
class Report:
    """What a run came to."""

    options: Options
    seed: int
    subjects: list[dict[str, Any]]
    parts: list[PartReport]
    ledger: Ledger = field(default_factory=Ledger)
    ended: str = ""  # why it stopped before its last case
    environment: dict[str, str] = field(default_factory=environment)

    def status(self) -> str:
        """The verdict on the target."""
        statuses = [p.status(self.options.profile) for p in self.parts]
        for status in ("REJECTED", "FAIL"):
            if status in statuses:
                return status
        passed = any(v.status == "PASS" for p in self.parts for v in p.verdicts)
        if "VOID" in statuses or not passed:
            return "VOID"
        return "INCOMPLETE" if self.problems() else "PASS"

    def exit_code(self) -> int:
        """0 conforms, 1 does not, 3 cannot be said."""
        return {"PASS": 0, "FAIL": 1, "REJECTED": 1, "VOID": 3, "INCOMPLETE": 3}[self.status()]

    def problems(self) -> list[str]:
        """Why this run cannot be taken for what was to be asked, a sentence each."""
        told = [f"incomplete: {self.ended}"] if self.ended else []
        lacking: dict[tuple[str, str], list[str]] = {}  # dtypes that lack the same
        for p in self.parts:
            if cases := p.missing(self.options.profile):
                words = ", ".join(f"{law} {n} of {of}" for law, (n, of) in cases.items())
                name = p.part.candidate.name
                what = p.op if name == p.op else f"{p.op} ({name})"
                lacking.setdefault((what, words), []).append(p.part.dtype)
        told += [
            f"incomplete: cases not asked of {what} in {', '.join(dtypes)}: {words}"
            for (what, words), dtypes in lacking.items()
        ]
        if self.options.profile in CERTIFYING:
            told += [
                f"incomplete: the manifest of required cases lacks {op}"
                for op in self.ops if required(self.options.profile, op) is None
            ]  # fmt: skip
        return told + [problem for use in self.waivers() if (problem := use.problem())]

    def waivers(self) -> list[Use]:
        """What became of the waivers."""
        profile = self.options.profile
        whole = not (self.options.laws or self.options.shard != (1, 1) or self.ended)
        whole = whole and not any(p.missing(profile) for p in self.parts)
        return uses(self.ledger, self.parts, whole=whole)

    @property
    def ops(self) -> list[str]:
        """The ops that were judged, in the order of the specification."""
        return [op for op in OPS if any(p.op == op for p in self.parts)]

    @property
    def not_covered(self) -> list[str]:
        """The ops of the specification of which this run says nothing."""
        return [op for op in OPS if op not in self.ops]

    @property
    def seed_drawn(self) -> bool:
        """Whether the seed was drawn after the candidate's files had been hashed."""
        return self.options.seed is None

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
