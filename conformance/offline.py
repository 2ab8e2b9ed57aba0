"""Candidates that run elsewhere: calls are written to files, answers are read from files.

The laws are the same. What a law would take from one call of the candidate to the next, a state
say, is the authority's here, so that all calls are known beforehand; what one call leaves behind is
held to the authority in any case. Files say nothing of memory: the laws about it are not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract, Expectations
from lingspec.conformance.runner.host import Outcome
from lingspec.conformance.session import Refused, Session, Stop

__all__ = ["NOT_ASKED", "Desk", "Reading", "Unanswered", "Writing"]

# Laws about where things lie in memory, and who writes to it.
NOT_ASKED = {
    "strides": "files have one layout",
    "untouched": "files do not tell what was written to",
    "unread": "files do not tell what was read",
    "gradients": "files hold no graph",
}


class Unanswered(Stop):
    """A call without an answer."""


@dataclass
class Desk:
    """Stands where the host of a candidate's process stands: a folder of calls."""

    folder: Path
    precision: str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    server: Any = field(default_factory=lambda: SimpleNamespace(device="offline"))
    launches: int = 0
    modules: int = 0
    history: list[Any] = field(default_factory=list)
    case: int = 0
    made: int = 0  # calls of this case

    def supports(self, _candidate: int, _case: Mapping[str, Any]) -> bool:
        """What is not supported is refused call by call, in place of an answer."""
        return True

    def settle(self, *, late: bool = False) -> list[str]:  # noqa: ARG002 - as `Host.settle`
        """Files do not change by themselves."""
        return []

    def begin(self, case: int) -> None:
        """The calls from here on are those of a case: a case that ends early shifts no name."""
        self.case, self.made = case, 0

    def next(self) -> str:
        """The name of the next call."""
        self.made += 1
        return f"{self.case:05d}-{self.made:02d}"


class _Offline(Session):
    """A session whose calls are files."""

    host: Any

    def right_alone(self) -> bool:
        """Nobody can be asked again: what was found stays."""
        return True

    def carried(self, results: Mapping[str, Tensor], want: Expectations) -> dict[str, Tensor]:
        """The authority's: the calls were written before the candidate ran."""
        return {n: _stand_in(self, n, want[n].value) if n in want else results[n] for n in results}


class Writing(_Offline):
    """Writes every call down, and goes on with the authority's results."""

    def _called(self, call: Call, **_memory: Any) -> Outcome:
        desk: Desk = self.host
        name = desk.next()
        desk.calls.append(_described(self.contract, call, name, str(self.case)))
        save_file(_dense(call.tensors), desk.folder / "calls" / f"{name}.safetensors")
        want = self.judged(call)
        made = {n: _stand_in(self, n, e.value) for n, e in want.items()}
        names = self.contract.returned(call)
        mutated = {n: made[n] for n in self.contract.mutable if n in made and n not in names}
        return Outcome("ok", [made[n] for n in names], shared=[False] * len(names), mutated=mutated)


class Reading(_Offline):
    """Reads the answer to every call."""

    def _called(self, call: Call, **_memory: Any) -> Outcome:
        desk: Desk = self.host
        name = desk.next()
        asked = _described(self.contract, call, name, str(self.case))
        desk.calls.append(asked)
        base = desk.folder / "calls" / name
        refused = base.with_suffix(".refused.txt")
        if refused.is_file():
            raise Refused(" ".join(refused.read_text(encoding="utf-8").split())[:200] or "refused")
        answer = base.with_suffix(".out.safetensors")
        if not answer.is_file():
            desk.unanswered.append(name)
            raise Unanswered
        try:
            given = load_file(answer)
        except (SafetensorError, OSError, ValueError) as broken:
            self.fail(f"{answer.name} cannot be read: {broken}", law="authority", status="CRASH")
            raise Stop from broken
        names = self.contract.returned(call)
        changed = [n for n in self.contract.mutable if n in call.tensors and n not in names]
        lacking = [n for n in (*names, *changed) if n not in given]
        if lacking:
            self.fail(f"{answer.name} lacks {', '.join(lacking)}", law="authority")
            raise Stop
        return Outcome(
            "ok", [given[n] for n in names], shared=[False] * len(names),
            mutated={n: given[n] for n in changed},
        )  # fmt: skip


def _stand_in(session: Session, name: str, value: Tensor) -> Tensor:
    return value.to(session.dtype_of(name))


def _dense(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: x.detach().contiguous().clone() for n, x in tensors.items()}


def _described(contract: Contract, call: Call, name: str, case: str) -> dict[str, Any]:
    """What a candidate must know of a call beside its tensors."""
    names = contract.returned(call)
    changed = [n for n in contract.mutable if n in call.tensors and n not in names]
    return {
        "id": name, "op": call.op, "case": case, "params": _plain(call.params),
        "inputs": {n: [_word(x.dtype), list(x.shape)] for n, x in call.tensors.items()},
        "answer": [*names, *sorted(changed)],
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Numbers and words, for JSON: a dtype by its name."""
    if isinstance(value, torch.dtype):
        return _word(value)
    if isinstance(value, Mapping):
        return {key: _plain(x) for key, x in value.items()}
    return [_plain(x) for x in value] if isinstance(value, (tuple, list)) else value


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
