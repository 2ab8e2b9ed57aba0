"""What a certifying run must ask is frozen: no law and no case goes missing unseen."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from lingspec.conformance import mustpass, plan
from lingspec.conformance.accuracy import power
from lingspec.conformance.contracts import OPS, contract


def test_the_manifest_of_this_version_is_what_the_code_asks():
    file = mustpass.FOLDER / f"{mustpass.SPEC_VERSION}.json"
    assert file.read_bytes() == mustpass.computed(), "python -m lingspec.conformance.mustpass"


def test_the_published_hash_is_that_of_the_manifest():
    name = f"{mustpass.SPEC_VERSION}.json"
    digest = hashlib.sha256((mustpass.FOLDER / name).read_bytes()).hexdigest()
    assert mustpass.digest() == digest
    assert (mustpass.FOLDER / f"{name}.sha256").read_text() == f"{digest}  {name}\n"


FEW = ("bias", "sequences", "scale")  # a case of these is a chain of calls, or a large one


def test_every_op_has_required_cases_of_every_law_in_both_certifying_profiles():
    for profile in mustpass.CERTIFYING:
        for op in OPS:
            asked = mustpass.required(profile, op)
            assert asked["authority"] > power.REJECTIONS
            assert {"untouched", "determinism"} < set(asked)
            assert min(n for law, n in asked.items() if law not in FEW) >= 12
            assert min(asked.values()) >= 6


def test_a_profile_that_certifies_nothing_and_an_unknown_op_require_nothing():
    assert mustpass.required("smoke", "lightning_decode") is None
    assert mustpass.required("ci", "nothing") is None


def a_count_less(patch):
    patch.setitem(plan.COUNTS, "ci", {**plan.COUNTS["ci"], "gradients": 23})


def a_law_less(patch):
    of = contract("lightning_attention")
    laws = tuple(law for law in of.laws if law != "causality")
    patch.setattr(mustpass, "laws_for", lambda c: laws if c is of else c.laws)


def a_rejection_less(patch):
    patch.setattr(mustpass, "REJECTIONS", 2)


@pytest.mark.parametrize("drop", [a_count_less, a_law_less, a_rejection_less])
def test_what_is_dropped_is_seen(monkeypatch, capsys, drop):
    assert mustpass.main([]) == 0
    drop(monkeypatch)
    assert mustpass.main([]) == 1
    assert "2026.11.json is not what the code asks" in capsys.readouterr().out


def test_the_command_writes_the_manifest_and_its_hash(monkeypatch, tmp_path, capsys):
    here = tmp_path / "required"
    shutil.copytree(mustpass.FOLDER, here)
    monkeypatch.setattr(mustpass, "FOLDER", here)
    a_count_less(monkeypatch)
    assert mustpass.main(["--write"]) == 0
    written = here / "2026.11.json"
    told = json.loads(written.read_bytes())
    assert told["profiles"]["ci"]["lightning_attention"]["gradients"] == 23
    digest = hashlib.sha256(written.read_bytes()).hexdigest()
    assert capsys.readouterr().out == f"{digest}  2026.11.json\n"
    assert mustpass.main([]) == 0
    assert mustpass.main(["--right"]) == 2
