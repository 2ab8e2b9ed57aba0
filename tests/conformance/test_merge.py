"""Shards put together are the one run; what are not all shards of one run is refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from fewer import ask_fewer
from test_governance import MODULE, WRONG, waive

from lingspec.conformance import merge as merges
from lingspec.conformance.cli import main

SHARDS = ("1", "2", "3")


def lingspec(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two candidates, and the manifest of a small profile."""
    folder = tmp_path_factory.mktemp("merged")
    (folder / "governed.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.delenv("GITHUB_ACTIONS", raising=False)
        ask_fewer(patch, folder / ".required", "ci", authority=8, default=4)
        yield folder


def certified(target, out, *more):
    return lingspec("certify", target, "--out", out, *more)


def in_shards(target, out, *more):
    codes = [
        certified(target, f"{out}{i}", "--shard", f"{i}/3", *more).exit_code for i in SHARDS
    ]  # fmt: skip
    return codes, [f"{out}{i}" for i in SHARDS]


@pytest.fixture(scope="module")
def shards(place):
    """Three shards of one run, under a seed that was drawn for the candidate."""
    drawn = lingspec("seed", "governed:right", "--out", "seed.json")
    assert drawn.exit_code == 0, drawn.output
    assert "for governed:right, 1 file, in seed.json" in drawn.stdout
    codes, folders = in_shards("governed:right", "right", "--seed-file", "seed.json")
    assert codes == [0, 0, 0]
    return folders


def results(folder):
    return json.loads((Path(folder) / "results.json").read_text())


def without_clock(told):
    """Results without how long each case took."""
    for part in told["parts"]:
        for verdict in part["record"]["verdicts"]:
            del verdict["seconds"]
    return told


def test_merged_shards_are_the_one_run_to_the_byte_of_the_certificate(shards, place):
    whole = certified("governed:right", "whole", "--seed-file", "seed.json")
    merged = lingspec("report", "merge", *shards, "--out", "merged")
    assert whole.exit_code == merged.exit_code == 0, merged.output
    assert merged.stdout == whole.stdout.replace("whole", "merged")
    assert without_clock(results("merged")) == without_clock(results("whole"))
    certificates = [(place / f / "certificate.json").read_bytes() for f in ("whole", "merged")]
    assert certificates[0] == certificates[1]
    assert json.loads(certificates[1])["predicate"]["seedDrawn"] is True
    assert lingspec("verify", "merged/certificate.json").exit_code == 0


def test_merged_shards_find_what_the_one_run_finds(place):
    codes, folders = in_shards(WRONG, "wrong", "--seed", 3, "--backward")
    assert set(codes) == {0, 1}  # a shard in which nothing fails holds
    whole = certified(WRONG, "wrong", "--seed", 3, "--backward")
    merged = lingspec("report", "merge", *folders, "--out", "merged-wrong", "--json")
    assert whole.exit_code == merged.exit_code == 1
    assert json.loads(merged.stdout)["certificate"] is None
    told = [without_clock(results(f)) for f in ("wrong", "merged-wrong")]
    assert told[0] == told[1]
    assert told[0]["parts"][0]["findings"]


def test_waivers_hold_for_the_whole_and_are_not_fixed_by_a_shard(place):
    codes, folders = in_shards(WRONG, "waived", "--seed", 3, *waive())
    assert codes == [0, 0, 0]
    whole = certified(WRONG, "waived", "--seed", 3, *waive())
    merged = lingspec("report", "merge", *folders, "--out", "merged-waived")
    assert whole.exit_code == merged.exit_code == 0, merged.output
    assert merged.stdout.splitlines()[:-1] == whole.stdout.splitlines()[:-1]
    files = [(place / f / "certificate.json").read_bytes() for f in ("waived", "merged-waived")]
    assert files[0] == files[1]
    (told,) = json.loads(files[0])["predicate"]["waivers"]
    assert told["waived"] == 3

    codes, folders = in_shards("governed:right", "fixed", "--seed", 3, *waive())
    assert codes == [0, 0, 0]
    merged = lingspec("report", "merge", *folders, "--out", "merged-fixed")
    assert merged.exit_code == 3
    assert "fixed waiver https://example.org/7" in merged.stdout


def test_power_is_proved_by_all_shards_together(place):
    asked = ("reference", "--op", "lightning_decode", "--seed", 3)
    every = ("report", "merge", *(f"power{i}" for i in SHARDS), "--out", "merged-power")
    for i in SHARDS:
        shard = certified(asked[0], f"power{i}", *asked[1:], "--shard", f"{i}/3")
        assert shard.exit_code == 0, shard.output
        assert "unproven" not in shard.stdout
    whole = certified(asked[0], "power", *asked[1:])
    merged = lingspec(*every)
    assert whole.exit_code == merged.exit_code
    assert without_clock(results("power")) == without_clock(results("merged-power"))
    assert results("power")["parts"][0]["power"]


def edited(folder, change, name="edited"):
    """A copy of a shard, changed."""
    shutil.rmtree(name, ignore_errors=True)
    shutil.copytree(folder, name)
    told = results(name)
    change(told)
    (Path(name) / "results.json").write_text(json.dumps(told))
    return name


WAIVED = {
    "issue": "7", "reason": "x", "owner": "kernels", "expires": "2999-12-31",
    "op": "lightning_log_decay",
}  # fmt: skip
CHANGED = {
    "another seed": (lambda d: d.update(seed=7), "edited has seed 7, but right1 has "),
    "another target": (lambda d: d["asked"].update(target="x"), "edited has target 'x', but"),
    "another profile": (lambda d: d["asked"].update(profile="full"), "edited has profile 'full'"),
    "another device": (lambda d: d["asked"].update(device="cuda"), "edited has device 'cuda', but"),
    "another torch": (
        lambda d: d["environment"].update(torch="1.0"), "edited has environment torch '1.0', but",
    ),
    "another file": (
        lambda d: d["subjects"][0]["digest"].update(sha256="0"),
        "governed:governed.py was another file in edited than in right1",
    ),
    "another contract": (
        lambda d: d["asked"]["contracts"].update(lightning_log_decay="0"),
        "edited has contracts lightning_log_decay '0', but",
    ),
    "another spec": (
        lambda d: d.update(specVersion="1999.1"), "edited has version of the specification '1999.1'"
    ),
    "other waivers": (
        lambda d: d["asked"].update(waivers=[WAIVED]), "edited has waivers [{'issue': '7'",
    ),
    "another candidate": (
        lambda d: d["parts"][0]["record"]["candidate"].update(name="left"),
        "edited has candidates left f32 fp32, but right1 has right f32 fp32",
    ),
    "a case less": (
        lambda d: d["parts"][0]["record"]["verdicts"].pop(), "edited is not shard 2/3 of seed",
    ),
    "a case twice": (
        lambda d: d["parts"][0]["record"]["verdicts"].append(
            d["parts"][0]["record"]["verdicts"][0]
        ),
        "edited is not shard 2/3 of seed",
    ),
    "a case of its own": (
        lambda d: d["parts"][0]["record"]["verdicts"][0].update(
            case="lightning_log_decay:authority.f32.H3.L0.N2.O1.0"
        ),
        "H3.L0.N2.O1.0 of right in f32 is not what is asked there",
    ),
    "another schema": (lambda d: d.update(schema="x"), "has schema 'x', but must have 'lingspec"),
    "no parts": (lambda d: d.pop("parts"), "edited lacks what a run writes: KeyError('parts')"),
    "no profile": (
        lambda d: d["parts"][0]["record"].update(precision="fp31"), "edited: no precision profile",
    ),
    "an unknown op": (
        lambda d: d["parts"][0]["record"]["candidate"].update(op="x"), "edited: no op 'x'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGED)
def test_what_is_no_shard_of_the_same_run_is_refused(shards, what):
    change, said = CHANGED[what]
    given = (shards[0], edited(shards[1], change), shards[2])
    result = lingspec("report", "merge", *given, "--out", "refused")
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("refused").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0, 1), "shard 3/3 is missing"),
        ((1,), "shard 1/3, 3/3 is missing"),
        ((0, 1, 1, 2), "a folder is named twice"),
        ((0, 1, "copy", 2), "shard 2/3 is in right2 and in edited"),
        ((0, 1, "of two"), "edited is one of 2 shards, but right1 of 3"),
        (("whole",), "edited is a whole run, not a shard"),
        ((0, 1, "none"), "no results none; `lingspec certify --out none` writes them"),
    ],
)
def test_shards_are_all_there_and_once(shards, given, said):
    changes = {
        "copy": lambda d: None, "of two": lambda d: d.update(shard=[2, 2]),
        "whole": lambda d: d.update(shard=[1, 1]),
    }  # fmt: skip
    folders = [
        shards[g] if isinstance(g, int) else edited(shards[1], changes[g]) if g in changes else g
        for g in given
    ]
    result = lingspec("report", "merge", *folders, "--out", "refused")
    assert result.exit_code == 2, result.output
    assert said in result.stderr


def test_the_merged_report_does_not_overwrite_a_shard(shards):
    result = lingspec("report", "merge", *shards, "--out", shards[0])
    assert result.exit_code == 2
    assert "must not be the folder of a shard" in result.stderr


def test_a_shard_that_lost_cases_leaves_the_whole_incomplete(shards):
    def lose(told):
        record = told["parts"][0]["record"]
        lost = record["verdicts"].pop()
        record["leftOut"] = {lost["law"]: 1}
        told["ended"] = "a worker process ended; 5 of 6 cases were judged"

    given = (shards[0], edited(shards[1], lose), shards[2])
    result = lingspec("report", "merge", *given, "--out", "lost")
    assert result.exit_code == 3
    assert "incomplete: shard 2: a worker process ended; 5 of 6 cases were judged" in result.stdout
    assert " 1 of " in result.stdout
    assert not Path("lost/certificate.json").exists()


def test_shards_of_another_installation_are_refused(shards, monkeypatch):
    monkeypatch.setattr(merges, "digest", lambda: "0")
    result = lingspec("report", "merge", *shards, "--out", "refused")
    assert result.exit_code == 2
    assert "but this installation has '0'" in result.stderr


def test_a_shard_needs_the_seed_of_the_others(place):
    result = certified("governed:right", "out", "--shard", "1/3")
    assert result.exit_code == 2
    assert "--shard 1/3 needs the seed of the other shards: --seed-file FILE" in result.stderr
    result = certified("governed:right", "out", "--shard", "1/3", "--seed", 1, "--fail-fast")
    assert result.exit_code == 2
    assert "--shard 1/3 and --fail-fast exclude each other" in result.stderr


def test_a_shard_says_that_it_is_one(place):
    result = certified("governed:right", "alone", "--shard", "2/3", "--seed", 1)
    assert result.exit_code == 0
    assert "shard 2/3 holds, `lingspec report merge` gives the verdict of all" in result.stdout


def test_a_shard_without_a_case_gives_no_verdict(place):
    result = certified("governed:right", "few", "--shard", "99/99", "--seed", 1)
    assert result.exit_code == 3
    assert results("few")["status"] == "VOID"


SEEDS = {
    "none.json": (None, "no seed file none.json; `lingspec seed` writes one"),
    "text.json": ("x", "text.json is not a seed file of lingspec"),
    "list.json": ("[]", "list.json is not a seed file of lingspec"),
}


@pytest.mark.parametrize("name", SEEDS)
def test_what_is_no_seed_file_is_refused(place, name):
    content, said = SEEDS[name]
    if content is not None:
        Path(name).write_text(content)
    result = certified("governed:right", "out", "--seed-file", name)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_seed_is_drawn_once_and_for_these_files(shards, place, monkeypatch):
    again = lingspec("seed", "governed:right", "--out", "seed.json")
    assert again.exit_code == 2
    assert "seed.json is there already; a seed is drawn once" in again.stderr
    both = certified("governed:right", "out", "--seed-file", "seed.json", "--seed", 1)
    assert both.exit_code == 2
    assert "--seed and --seed-file exclude each other" in both.stderr
    other = certified(WRONG, "out", "--seed-file", "seed.json")
    assert other.exit_code == 2
    assert f"seed.json is a seed for governed:right, but target is {WRONG}" in other.stderr
    told = json.loads(Path("seed.json").read_text())
    Path("chosen.json").write_text(json.dumps({**told, "seed": 1}))
    chosen = certified("governed:right", "out", "--seed-file", "chosen.json")
    assert "chosen.json was changed after it was written: its seal does not fit" in chosen.stderr
    source = place / "governed.py"
    source.write_text(MODULE + "# another\n")
    try:
        changed = certified("governed:right", "out", "--seed-file", "seed.json")
    finally:
        source.write_text(MODULE)
    assert changed.exit_code == 2
    assert "is a seed for other files than are here: governed:governed.py" in changed.stderr
