"""What a run finds, and the words of a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["NEVER_WAIVED", "STATUSES", "Finding", "Verdict"]

STATUSES = (
    "PASS", "FAIL", "VOID", "NOT SUPPORTED", "REJECTED", "CRASH", "TIMEOUT", "WAIVED",
)  # fmt: skip
NEVER_WAIVED = frozenset({"REJECTED"})  # `integrity` says what is rejected, and why none is waived


@dataclass(frozen=True)
class Finding:
    """A law or limit broken by a case."""

    law: str
    text: str
    case: str
    where: str = ""
    got_want: str = ""
    excess: float = float("inf")
    status: str = "FAIL"
    trace: str = ""


@dataclass
class Verdict:
    """What one case came to."""

    case: str
    law: str
    status: str
    findings: list[Finding] = field(default_factory=list)
    reason: str = ""  # of VOID and NOT SUPPORTED
    seconds: float = 0.0
    launches: int = 0  # of emulated kernels
    worst: float = 0.0  # largest error over limit of all that was compared
    killed: tuple[str, ...] = ()  # degenerates that this case rejects
    applicable: tuple[str, ...] = ()  # degenerates that it could reject
    bits: str = ""  # a name for the results of the case's own call
    instead: str = ""  # the case that was planned, where `case` stands in for it
    refusal: str = ""  # why that one is not supported
