"""One case against one candidate: calls, comparisons, findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from lingspec.conformance.accuracy.profiles import Profile
from lingspec.conformance.accuracy.verdict import Problem
from lingspec.conformance.case import Call, Case, dtype_of
from lingspec.conformance.contract import Contract, Expectations
from lingspec.conformance.findings import Finding
from lingspec.conformance.integrity import belongs_to_an_earlier_call, name_of_bits
from lingspec.conformance.runner.host import CandidateInfo, Host, Outcome

if TYPE_CHECKING:
    from lingspec.conformance.accuracy.limits import Limits

__all__ = ["Memo", "NothingToCheck", "Refused", "Session", "Stop"]

# What equal calls must give, from one candidate to the next.
Memo = dict[tuple[str, str, str], Any]
T = TypeVar("T")


class Stop(Exception):  # noqa: N818 - ends a case, whatever it found
    """Nothing more can be learnt from this case."""


class NothingToCheck(Stop):
    """The law says nothing of this case."""


class Refused(Stop):
    """The candidate does not support a call that the law needs."""


class Session:
    """What laws see: the case, its call and authority, and a way to call the candidate.

    Every call's memory is checked; what it returns is compared by the law, or by `expect`.
    """

    def __init__(
        self, host: Host, candidate: CandidateInfo, contract: Contract, profile: Profile,
        case: Case, memo: Memo | None = None,
    ) -> None:  # fmt: skip
        self.host, self.candidate, self.contract = host, candidate, contract
        self.profile, self.case = profile, case
        self._memo: Memo = {} if memo is None else memo
        self.call = self._once(("call", "", str(case)), lambda: contract.make(case))
        self.findings: list[Finding] = []
        self.worst = 0.0
        self.bits = ""  # of the results of the case's own call, the first time
        self._made: list[tuple[Tensor, Call]] = []  # every result, and what it is the result of

    @property
    def authority(self) -> Expectations:
        """Every output of the case's own call, with limits."""
        return self.judged(self.call)

    @property
    def variants(self) -> list[dict[str, Tensor]]:
        """The same outputs from emulated honest implementations."""
        return self._kept("variants", self.contract.variants, self.call)

    @property
    def gradient_variants(self) -> list[dict[str, Tensor]]:
        """The same gradients from emulated honest implementations."""
        assert self.contract.gradient_variants is not None
        return self._kept("gradient variants", self.contract.gradient_variants, self.call)

    def judged(self, call: Call) -> Expectations:
        """What any call must give; computed once for equal inputs."""
        return self._kept("authority", self.contract.authority, call)

    def trained(self) -> dict[str, Limits]:
        """The gradients that the case's call must give."""
        assert self.contract.gradients is not None
        return self._kept("gradients", self.contract.gradients, self.call)

    def _kept(self, kind: str, compute: Callable[[Call, Profile], T], call: Call) -> T:
        key = (kind, self.profile.name, call.digest)
        return self._once(key, lambda: compute(call, self.profile))

    def _once(self, key: tuple[str, str, str], compute: Callable[[], T]) -> T:
        if key not in self._memo:
            self._memo[key] = compute()
        found: T = self._memo[key]
        return found

    def beside(self, case: Case, profile: Profile) -> Session | None:
        """Another case of the same candidate; None where it is not supported or has no verdict."""
        other = type(self)(self.host, self.candidate, self.contract, profile, case, self._memo)
        if other.supported(other.call) is not True:
            return None
        return other if all(e.finite() for e in other.authority.values()) else None

    # -- calling -----------------------------------------------------------------------------

    def run(
        self, call: Call | None = None, *, poison: str = "nan", backward: bool = False
    ) -> dict[str, Tensor]:
        """The candidate's results of ``call`` (of the case, if none is given), by name.

        ``backward`` lets the programs of emulated kernels run from the last to the first.

        Raises:
            Stop: there are none: the candidate crashed, hung or returned something else, or does
                not support this call.
        """
        call = self.call if call is None else call
        if call is not self.call:
            answer = self.supported(call)
            if answer is not True:
                raise Refused(str(answer))
        outcome = self._called(call, poison=poison, backward=backward)
        names = self.contract.returned(call)
        results = dict(zip(names, outcome.outputs, strict=True))
        for name, shared in zip(names, outcome.shared, strict=True):
            if shared and name not in self.contract.mutable:
                self.fail(
                    f"{name} shares memory with an input, but must be its own", law="untouched"
                )
        results = outcome.mutated | results
        self._made += [(x, call) for x in results.values()]
        self.host.history.append((self.candidate.index, call))
        if call is self.call and not self.bits:
            self.bits = name_of_bits(results)
        return results

    def settle(self, *, late: bool = False) -> None:
        """Whether the last call's results and inputs are what they were when it returned."""
        for text in self.host.settle(late=late):
            self.fail(text, law="integrity", status="REJECTED")

    def carried(self, results: dict[str, Tensor], _want: Expectations) -> dict[str, Tensor]:
        """What one call hands to the next: the candidate's own results."""
        return results

    def gradients(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The candidate's results where gradients are asked for, and those gradients."""
        outcome = self._called(self.call, grad=self.call.wrt)
        keys = (*self.contract.results, *(f"d{name}" for name in self.call.wrt))
        found = dict(zip(keys, outcome.outputs, strict=True))
        forward = {name: found.pop(name) for name in self.contract.results}
        return forward, found

    def supported(self, call: Call) -> bool | str:
        """What the candidate's `supports` says of a call: True, or why not."""
        return self.host.supports(self.candidate.index, self._described(call))

    def _described(self, call: Call) -> dict[str, Any]:
        """What `supports` is shown of a call: the case's, or one that a law made of it."""
        told = self.case.described() | dict(self.contract.told(call))
        for spec in self.contract.inputs:
            found = call.tensors.get(spec.name)
            if found is not None and found.dim() == len(spec.axes):  # rows may have other ranks
                told |= dict(zip(spec.axes, found.shape, strict=True))
        packed, state = "cu_seqlens" in call.tensors, self.contract.algebra.state
        if self.contract.algebra.packed:
            told["packed"] = packed
            lengths = call.tensors["cu_seqlens"].diff() if packed else torch.tensor([told["T"]])
            told["N"] = len(lengths) if packed else told["B"]
            told["shortest"] = int(lengths.min()) if len(lengths) else 0
        if state:
            told["has_state"] = any(into in call.tensors for into, _ in state)
        return told

    def _called(
        self, call: Call, *, grad: tuple[str, ...] = (), poison: str = "nan",
        backward: bool = False,
    ) -> Outcome:  # fmt: skip
        outcome = self.host.call(
            self.candidate.index, call.tensors, call.params,
            positional=self.contract.positional, outputs=self.contract.returned(call),
            mutable=self.contract.mutable, nested=self.contract.nested, grad=grad,
            cotangents=call.cotangents if grad else None, poison=poison, far=call.far,
            config=self.case.seed, backward=backward,
        )  # fmt: skip
        for text in outcome.tampered:
            self.fail(text, law="integrity", status="REJECTED")
        if outcome.status == "forged":
            self.fail(outcome.error, law="integrity", status="REJECTED")
            raise Stop
        if outcome.status == "wrong":
            self.fail(outcome.error, law="gradients" if grad else "authority")
            raise Stop
        if outcome.status != "ok":
            status = "TIMEOUT" if outcome.status == "timeout" else "CRASH"
            self.fail(
                outcome.error, law=self.case.law or "authority", status=status, trace=outcome.trace
            )
            raise Stop
        if outcome.overwritten:
            text = f"the call changed {outcome.overwritten} of the call before it"
            self.fail(text, law="untouched")
        if outcome.changed:
            edited = outcome.changed in call.tensors.keys() | call.cotangents.keys()
            status = "REJECTED" if edited else "FAIL"
            self.fail(f"the call wrote to {outcome.changed}", law="untouched", status=status)
        for name, device in zip(self.contract.returned(call), outcome.device, strict=False):
            want = "cuda" if self.host.server.device == "cuda" else "cpu"
            if device != want:
                self.fail(f"{name} is on device {device}, but must be on {want}", law="authority")
        return outcome

    def right_alone(self) -> bool:
        """Whether the call is inside its limits where nothing was called before it."""
        self.host.renew()
        try:
            got = self.run()
        except Stop:
            return False
        want = self.authority.items()
        return all(e.problem(got[n], self.dtype_of(n), [], got) is None for n, e in want)

    # -- comparing ---------------------------------------------------------------------------

    def expect(
        self, law: str, got: dict[str, Tensor], want: Expectations, text: str = "",
        variants: list[dict[str, Tensor]] | None = None,
    ) -> bool:  # fmt: skip
        """Compare results with limits; a finding of ``law`` for the first that is outside."""
        for name, expected in want.items():
            honest = [v[name] for v in variants or () if name in v]
            problem = expected.problem(got[name], self.dtype_of(name), honest, got)
            comparable = problem is None or problem.kind not in ("dtype", "shape", "finite")
            if comparable and expected.value.numel():
                worst = expected.worst(got[name], got)
                self.worst = max(self.worst, worst if math.isfinite(worst) else 0.0)
            if problem is not None:
                self._found(law, problem, text)
                self._whose(name, got)
                return False
        return True

    def same_bits(self, law: str, got: Tensor, want: Tensor, text: str, name: str) -> bool:
        """Compare two results of the candidate, or with an exact value: every element equal."""
        if got.shape == want.shape and got.dtype == want.dtype:
            differ = (got != want) & ~(got.isnan() & want.isnan())
            if not bool(differ.any()):
                return True
            at = tuple(int(i) for i in differ.nonzero()[0])
            place = ", ".join(map(str, at))
            count = int(differ.sum())
            self.fail(
                text, law=law, where=f"{name}[{place}] and {count - 1} more of {got.numel()}",
                got_want=f"[{place}] {float(got[at]):.9g} / {float(want[at]):.9g}, every bit",
            )  # fmt: skip
            return False
        shapes = f"{tuple(got.shape)} {got.dtype}, {tuple(want.shape)} {want.dtype}"
        self.fail(text, law=law, where=f"{name}: {shapes}")
        return False

    def dtype_of(self, name: str) -> torch.dtype:
        """The dtype that an output, a mutated input or a gradient must have."""
        specs = {s.name: s.dtype for s in (*self.contract.inputs, *self.contract.outputs)}
        return dtype_of(specs.get(name) or specs[name.removeprefix("d")], self.case.torch_dtype)

    def fail(
        self, text: str, *, law: str, where: str = "", got_want: str = "", status: str = "FAIL",
        trace: str = "", excess: float = float("inf"),
    ) -> None:  # fmt: skip
        """Write down a finding."""
        self.findings.append(
            Finding(law, text, str(self.case), where, got_want, excess, status, trace)
        )

    def _whose(self, name: str, results: Mapping[str, Tensor]) -> None:
        """A wrong result may be the right one of another call."""
        call = next((call for x, call in self._made if x is results[name]), None)
        if call is not None and belongs_to_an_earlier_call(self, name, results, call):
            text = f"{name} is what an earlier call, with other inputs, had to give"
            self.fail(text, law="integrity", status="REJECTED")

    def _found(self, law: str, problem: Problem, text: str) -> None:
        said = f"{text}: {problem.text}" if text else problem.text
        self.fail(
            said, law=law, where=problem.where, got_want=problem.got_want, excess=problem.excess
        )
