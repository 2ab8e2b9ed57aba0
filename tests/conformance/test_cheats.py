"""The ways in which kernels have fooled their judges: what this one says of each.

REJECTED where there is evidence that a result is not of the call's inputs, or that the judge was
tampered with; FAIL where the result is wrong, and no more is known.
"""

from __future__ import annotations

import pytest
from judging import ATTENTION, case, hosted, judged, server_here

# Name: what must be told. Each is asked the cases of `asked`.
OF_OTHER_CALLS = {
    "caches_by_pointer": "o is what an earlier call, with other inputs, had to give",
    "caches_by_a_fingerprint": "o is what an earlier call, with other inputs, had to give",
    "caches_by_call_number": "o is what an earlier call, with other inputs, had to give",
    "returns_the_result_of_the_call_before": "had to give",
}
TAMPERS = {
    "asks_for_the_reference_and_goes_on": "asked for lingspec.reference",
    "loads_the_reference_from_its_file": "opened lightning_attention.",
    "reads_the_reference_s_source": "opened lightning_attention.py of the reference",
    "asks_another_process_for_the_reference": "started a process on the reference",
    "reads_the_judge_s_memory": "opened mem of the judge's process",
    "reads_what_the_judge_was_asked": "opened cmdline of the judge's process",
    "traces_other_processes": "looked up ptrace, which reads other processes",
    "ends_the_judge": "sent signal 9 to the judge's process",
    "zeros_its_inputs": "the call wrote to q",
    "edits_its_inputs_and_puts_them_back_late": "the call wrote to q",
    "edits_its_inputs_when_nobody_looks": "q was written to after the call had returned",
    "fills_its_result_in_later": "o changed after the call had returned it",
    "changes_its_result_later": "final_state changed after the call had returned it",
    "replaces_the_comparison": "replaced torch.equal, which the judge relies on",
    "replaces_the_clock": "replaced time.monotonic, which the judge relies on",
    "replaces_the_protocol": "replaced json.dumps, which the judge relies on",
    "takes_the_import_hooks_away": "took the judge's entry out of sys.meta_path",
    "sends_an_answer_itself": "the process sent an answer that was not asked for",
    "leaves_its_result_untouched": "no element of o was written",
}
WRONG = {
    "looks_for_the_expected_values_in_memory": "o is further from the authority",
    "returns_a_tensor_that_equals_everything": "o is cheats.Lazy, but must be torch.Tensor",
    "returns_a_copy_of_its_input": "o is further from the authority",
    "writes_past_the_end_of_its_input": "memory outside every input, byte 1 after q",
    "adds_what_was_in_fresh_memory": "o is not finite where the authority is",
    "knows_powers_of_two_only": "o is further from the authority",
    "right_where_the_process_tells_of_a_judge": "o is further from the authority",
}


@pytest.fixture(scope="module")
def server():
    with server_here() as made:
        yield made


def asked(server, name, *laws):
    with hosted(server, f"cheats:{name}") as host:
        return judged(host, *(case(law, more=".state") for law in laws))


@pytest.mark.parametrize("name", OF_OTHER_CALLS)
def test_a_result_of_another_call_is_rejected(server, name):
    (found,) = asked(server, name, "determinism")
    assert found.status == "REJECTED"
    assert any(OF_OTHER_CALLS[name] in f.text for f in found.findings if f.law == "integrity")


@pytest.mark.parametrize("name", TAMPERS)
def test_what_touches_the_judge_s_is_rejected_whatever_the_results_are(server, name):
    (found,) = asked(server, name, "untouched")
    assert found.status == "REJECTED"
    assert any(TAMPERS[name] in f.text for f in found.findings if f.status == "REJECTED")


@pytest.mark.parametrize("name", WRONG)
def test_a_cheat_of_which_only_a_wrong_result_is_seen_fails(server, name):
    (found,) = asked(server, name, "authority")
    assert found.status == "FAIL"
    assert any(WRONG[name] in f.text for f in found.findings)


def test_what_leaves_early_has_crashed_whatever_it_says(server):
    (found,) = asked(server, "leaves_early_and_says_all_is_well", "authority")
    assert (found.status, found.findings[0].text) == ("CRASH", "SystemExit: 0")


def test_a_candidate_that_ends_the_fork_server_does_not_end_the_run(server):
    first, second = asked(server, "ends_the_fork_server", "authority", "authority")
    assert (first.status, second.status) == ("CRASH", "CRASH")
    with hosted(server, "candidates:honest") as host:
        assert judged(host, case())[0].status == "PASS"


def test_results_learnt_by_heart_are_right_for_their_seed_only(server):
    with hosted(server, "cheats:knows_the_numbers_of_one_seed") as host:
        known, other = judged(host, case(), case().with_(seed=2))
    assert (known.status, other.status) == ("PASS", "FAIL")


def test_a_kernel_that_is_not_launched_does_not_count_as_one(server):
    (found,) = asked(server, "imports_triton_and_launches_nothing", "authority")
    assert (found.status, found.launches) == ("PASS", 0)


LAWS = [law for law in ATTENTION.laws if law not in ("exact", "packed", "gradients")]


@pytest.mark.parametrize("name", ["honest", "returns_nothing_new", "repeats_itself"])
def test_what_is_honest_is_not_rejected(server, name):
    with hosted(server, f"candidates:{name}") as host:
        for T, more in (("T5", ".state"), ("T0", ".state"), ("T0", "")):
            for law in LAWS:
                text = str(case(law, more=more)).replace("T5", T)
                (found,) = judged(host, ATTENTION.parse(text))
                assert found.findings == []
