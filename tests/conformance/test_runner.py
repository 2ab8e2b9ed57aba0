"""Candidates that crash, hang, cheat or return nonsense: each is said to, and the run goes on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from judging import ATTENTION, case, hosted, judged, server_here

from lingspec.conformance.runner.host import EACH, LATE, RunnerError, Server, TargetRefused

TIMEOUT = 1.0  # for those that hang

# Name: status, a part of what is said. All in the case of `judging`, asked twice.
ENDS = {
    "segfaults": ("CRASH", "the process was killed by SIGSEGV"),
    "leaves_without_a_word": ("CRASH", "the process exited with 0"),
    "exits": ("CRASH", "SystemExit: that will do"),
    "raises": ("CRASH", "ValueError: no\N{REPLACEMENT CHARACTER}thing of "),
    "raises_what_cannot_be_printed": ("CRASH", "UnprintableError, which cannot be printed"),
    "sleeps": ("TIMEOUT", "no result within 1 s"),
    "spins": ("TIMEOUT", "no result within 1 s"),
    "leaves_a_child_behind": ("TIMEOUT", "no result within 1 s"),
    "closes_its_files": ("CRASH", "the process exited with 1"),
    "answers_by_itself": ("REJECTED", "sent an answer that was not asked for"),
}
RETURNS = {
    "returns_a_subclass": "o is candidates.Named, but must be torch.Tensor",
    "returns_an_array": "o is numpy.ndarray, but must be torch.Tensor",
    "returns_one_of_two": "returned 1 value, but must return o, final_state",
    "returns_nothing": "returned None, but must return o, final_state",
    "returns_a_sparse_tensor": "o has layout torch.sparse_coo, but must have torch.strided",
    "returns_on_no_device": "o is on device meta, but must have contents",
    "returns_doubles": "o has dtype float64, but must have float32",
    "returns_complex_numbers": "o has dtype complex64, but must have float32",
    "returns_four_bits": "o has dtype float4_e2m1fn_x2, but must have float32",
    "returns_quantized_numbers": "o is quantized, torch.qint8, but must be plain numbers",
    "returns_heads_first": "o has shape (2, 2, 5, 8), but must have (2, 5, 2, 8)",
    "returns_nan": "o is not finite where the authority is",
    "returns_its_input": "o shares memory with an input, but must be its own",
    "leaves_results_unwritten": "o is not finite where the authority is",
}
WRITES = {
    "edits_its_input": ("dense", "REJECTED", "the call wrote to q"),
    "writes_behind_its_input": ("dense", "FAIL", "memory outside every input, byte 1 after q"),
    "writes_between_elements": ("padded", "FAIL", "memory between the elements of q"),
}
HARMLESS = (
    "honest", "talks", "dies_after_its_answer", "returns_a_negated_view", "forks_and_returns_twice",
)  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with server_here() as made:
        yield made


def verdicts(server, name, *cases, timeout=TIMEOUT):
    with hosted(server, f"candidates:{name}", timeout) as host:
        return judged(host, *cases)


@pytest.mark.parametrize("name", ENDS)
def test_a_candidate_that_ends_or_hangs_is_a_finding_and_the_next_case_is_asked(server, name):
    status, said = ENDS[name]
    for verdict in verdicts(server, name, case(), case("strides")):
        assert verdict.status == status
        assert said in verdict.findings[0].text
        assert "\n" not in verdict.findings[0].text


@pytest.mark.parametrize("name", RETURNS)
def test_what_is_no_result_fails_and_is_named(server, name):
    found = verdicts(server, name, case(), case())
    assert [v.status for v in found] == ["FAIL", "FAIL"]
    assert any(RETURNS[name] in f.text for f in found[0].findings)


@pytest.mark.parametrize("name", WRITES)
def test_every_byte_around_and_between_the_inputs_is_guarded(server, name):
    layout, status, said = WRITES[name]
    (found,) = verdicts(server, name, case(layout=layout))
    assert (found.status, found.findings[0].law) == (status, "untouched")
    assert said in found.findings[0].text


@pytest.mark.parametrize("name", HARMLESS)
def test_what_changes_no_result_is_no_finding(server, name):
    first = verdicts(server, name, case(), timeout=60.0)[0]
    assert (first.status, first.findings) == ("PASS", [])


def test_a_candidate_that_dies_between_two_calls_is_started_again(server):
    with hosted(server, "candidates:dies_after_its_answer") as host:
        (first,) = judged(host, case())
        time.sleep(0.2)
        (second,) = judged(host, case())
    assert (first.status, second.status) == ("PASS", "PASS")


def test_an_input_that_is_edited_later_is_noticed_by_a_later_call(server):
    found = verdicts(server, "edits_its_input_later", case(B=1), case(B=2), timeout=60.0)
    assert found[1].status == "REJECTED"


def test_a_process_is_given_time_at_first_then_once_in_so_many_requests(server, monkeypatch):
    slept = []
    with hosted(server, "candidates:honest") as host:
        monkeypatch.setattr(time, "sleep", slept.append)
        for _ in range(EACH + 1):
            host.settle(late=True)
    assert slept == [LATE, LATE]


def test_time_between_two_calls_is_time_that_a_process_was_given(server, monkeypatch):
    slept = []
    with hosted(server, "candidates:honest") as host:
        judged(host, case())
        time.sleep(LATE)
        judged(host, case())
        monkeypatch.setattr(time, "sleep", slept.append)
        for _ in range(EACH):
            host.settle(late=True)
    assert slept == [LATE]  # at the last request


def test_a_result_that_a_later_call_changes_is_noticed_by_that_call(server):
    first, second = verdicts(
        server, "returns_what_it_returned_before", case(), case().with_(seed=2)
    )
    assert first.status == "PASS"
    assert (second.status, second.findings[0].law) == ("FAIL", "untouched")
    assert second.findings[0].text == "the call changed o of the call before it"


def test_the_reference_is_not_to_be_had_in_the_candidate_s_process(server):
    (found,) = verdicts(server, "reads_the_reference", case())
    assert [f.status for f in found.findings] == ["REJECTED", "CRASH"]
    assert "the candidate asked for lingspec.reference" in found.findings[0].text
    assert "lingspec.reference is not to be had" in found.findings[1].text


@pytest.mark.parametrize("name", ["believes_everything_equal", "takes_the_poison_away"])
def test_what_a_candidate_patches_changes_no_verdict_and_is_told(server, name):
    (found,) = verdicts(server, name, case())
    assert found.status == "REJECTED"
    assert "which the judge relies on" in found.findings[0].text
    wrong = name == "believes_everything_equal"
    assert wrong == any(f.law == "authority" for f in found.findings)


def test_the_forward_pass_of_training_is_judged_as_well(server):
    forward, training = verdicts(
        server, "computes_something_else_where_it_trains", case(), case("gradients"), timeout=60.0
    )
    assert (forward.status, training.status) == ("PASS", "FAIL")
    assert training.findings[0].text.startswith("where gradients are asked for: o is further")


def test_gradients_that_were_promised_are_missed(server):
    (found,) = verdicts(server, "has_no_gradients", case("gradients"), timeout=60.0)
    assert (found.status, found.findings[0].law) == ("FAIL", "gradients")
    assert found.findings[0].text == "no result has a gradient, but must have those of q, k, v"


def test_no_gradient_is_missed_of_what_has_no_elements(server):
    none = "lightning_attention:gradients.f32.H2.K8.V8.n0-0.state.wrt-q.slopes.normal.dense.1"
    (found,) = verdicts(server, "honest", ATTENTION.parse(none))
    assert (found.status, found.findings) == ("PASS", [])


def test_gradients_that_were_not_promised_are_not_asked(server):
    (found,) = verdicts(server, "talks", case("gradients"))
    assert (found.status, found.reason) == ("NOT SUPPORTED", "no gradients: backward=False")


def test_a_call_that_a_law_adds_is_refused_as_the_case_itself_would_be(server):
    found = verdicts(server, "takes_no_state", case(), case(more=".state"), case("handover"))
    assert [v.status for v in found] == ["PASS", "NOT SUPPORTED", "NOT SUPPORTED"]
    assert {v.reason for v in found[1:]} == {"no state, please"}


def test_a_packed_case_has_every_size_that_supports_may_ask_for(server):
    packed = "lightning_attention:packed.f32.H2.K8.V8.n3-0-4.slopes.normal.dense.1"
    found = verdicts(server, "asks_for_every_size", ATTENTION.parse(packed))
    assert found[0].status == "PASS"


def test_a_refusal_without_a_reason_is_a_refusal(server):
    (found,) = verdicts(server, "gives_no_reason", case())
    assert (found.status, found.reason) == ("NOT SUPPORTED", "refused")


def test_a_supports_that_raises_is_a_wrong_command(server):
    with pytest.raises(TargetRefused, match=r"supports\(\) of .* failed: AttributeError") as told:
        verdicts(server, "cannot_say", case())
    assert told.value.kind == "usage"


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def test_closing_the_server_ends_every_process_that_it_made():
    with server_here() as server, hosted(server, "candidates:honest") as host:
        judged(host, case())
        made = [*children(server.process.pid), server.process.pid]
        assert len(made) == 2
        server.close()
        for _ in range(100):
            if not any(alive(pid) for pid in made):
                break
            time.sleep(0.05)
        assert not any(alive(pid) for pid in made)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def test_a_process_that_cannot_start_says_why():
    server = Server(preload="no_module_of_this_name")
    try:
        with pytest.raises(RunnerError, match="No module named 'no_module_of_this_name'"):
            server.fork(1, 1)
    finally:
        server.close()
