"""Histories of requests, drawn and shrunk by Hypothesis: right ones survive, wrong ones do not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from lingspec import reference
from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.plan import draw
from lingspec.conformance.registry import mutants

MACHINES = [op for op in OPS if contract(op).machine is not None]
FP32 = profile("fp32")


def outcome(of, function, call):
    """What a function returns and changes, by name."""
    tensors = {n: x.clone() for n, x in call.tensors.items()}
    made = function(**tensors, **call.params)
    made = made if isinstance(made, tuple) else (made,) if made is not None else ()
    named = dict(zip(of.returned(call), made, strict=True))
    return {**{n: tensors[n] for n in of.mutable}, **named}


def machine_of(op, function):
    """A state machine whose rules are those of the contract's machine."""
    of = contract(op)

    class Requests(RuleBasedStateMachine):
        @initialize(seed=st.integers(0, 50))
        def start(self, seed):
            self.machine = of.machine(draw(of, "sequences", "native", "f32", seed, 1))

        @rule(data=st.data())
        def happens(self, data):
            chosen = data.draw(st.sampled_from(sorted(set(self.machine.rules()))))
            g = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
            told, call = self.machine.step(chosen, g)
            if call is None:
                return
            results = outcome(of, function, call)
            for name, want in of.authority(call, FP32).items():
                found = want.problem(results[name], results[name].dtype, (), results)
                assert found is None, f"{told}: {found.text}"
            self.machine.took(results)

    return Requests


FEW = settings(max_examples=15, stateful_step_count=12, deadline=None)


@pytest.mark.parametrize("op", MACHINES)
def test_the_reference_survives_any_history_of_requests(op):
    run_state_machine_as_test(machine_of(op, getattr(reference, op)), settings=FEW)


LEFT_BEHIND = (
    ("lightning_decode", "uses_the_number_in_the_batch_as_the_slot"),
    ("lightning_decode", "decays_the_whole_pool"),
    ("lightning_attention", "never_decays_the_initial_state"),
)


@pytest.mark.parametrize(("op", "name"), LEFT_BEHIND)
def test_a_history_shows_what_is_left_behind(op, name):
    with pytest.raises(AssertionError, match=r" on by "):
        run_state_machine_as_test(machine_of(op, mutants()[name].function), settings=FEW)
