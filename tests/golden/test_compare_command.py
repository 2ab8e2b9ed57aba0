"""What `lingspec compare` says, and which limit it says it with."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from click.testing import CliRunner
from traces import BASE, copied, run, swap_experts

from lingspec.conformance.cli import main
from lingspec.golden import Recorder, open_trace
from lingspec.golden.compare import compare


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return run(tmp_path_factory.mktemp("traces") / "base")


def command(*arguments):
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_the_limit_is_that_of_the_coarser_precision_unless_one_is_given(tmp_path):
    limits = {"float64": 1e-12, "float32": 2e-5, "bfloat16": 3e-2}
    for precision in (*limits, "float16"):
        with Recorder(tmp_path / precision, precision=precision) as made:
            made.add("x", torch.ones(2, 2))
    for n, (one, limit) in enumerate(limits.items()):
        for other in list(limits)[: n + 1]:
            found = compare(tmp_path / one, tmp_path / other)
            assert found.limit == limit
            assert found.because.startswith(f"{one}: ")
    found = compare(tmp_path / "float64", tmp_path / "float16", limit=0.5)
    assert (found.limit, found.because) == (0.5, "given")
    refused = command(tmp_path / "float64", tmp_path / "float16")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == "lingspec: no limit is known for float16: give one\n"


def test_precision_of_float64_tells_what_float32_does_not(tmp_path, base):
    one, other = (run(tmp_path / f"{n}", dtype=torch.float64) for n in range(2))
    assert compare(one, other).limit == 1e-12
    assert compare(one, other).exit_code == 0
    assert compare(one, other, limit=0).exit_code == 0
    assert compare(one, base).exit_code == 0
    assert compare(one, base, limit=1e-12).exit_code == 1


def test_agreement_is_told_with_its_limit_and_the_worst_of_each_kind(base):
    told = command(base, BASE)
    assert told.exit_code == 0
    assert told.stdout.startswith("AGREE       48 tensors within the limit\n")
    assert "limit     2e-05 for a tensor, 8 times that for one row of it\n" in told.stdout
    for kind, count in (("attention", 8), ("router_logits", 7), ("logits", 1), ("topk_idx", 7)):
        assert re.search(rf"^    {kind} +{count} +0 +[0-9.e-]+", told.stdout, re.MULTILINE)
    assert "first" not in told.stdout
    assert all(len(line) <= 120 for line in told.stdout.splitlines()[3:])


def test_divergence_is_told_with_layer_tokens_and_what_follows(tmp_path):
    told = command(run(tmp_path, change=swap_experts), BASE)
    assert told.exit_code == 1
    block = told.stdout[told.stdout.index("  first") :].splitlines()
    assert re.fullmatch(r"  first     layers\.2\.mlp: 0\.27 apart, 1\d,\d{3}× the limit", block[0])
    assert block[1] == "  layer     2 of 8: Lightning attention, experts"
    assert re.fullmatch(r"  where     15 of 42 tokens: sequence 0: .*; sequence 1: .*", block[2])
    assert block[4] == "  routing   of this layer: the same experts"
    assert block[5].startswith("  before    14 tensors, at most ")
    assert block[6].startswith(
        "  after     33 of 33 tensors beyond the limit, the largest layers.7."
    )
    assert len(block) == 7


def test_all_tensors_are_listed_where_that_is_asked(base):
    told = command(base, BASE, "--all").stdout
    for name in list(open_trace(base))[1:]:
        assert f"    {name} " in told


def test_json_is_all_that_is_printed_and_has_every_tensor(base, tmp_path):
    def refuse(word):
        raise AssertionError(word)

    x = open_trace(base)["logits"].clone()
    x[1, 2, 3] = math.nan
    told = command(copied(tmp_path, open_trace(base), logits=x), BASE, "--json")
    body = json.loads(told.stdout, parse_constant=refuse)
    assert (told.exit_code, body["exitCode"], body["status"]) == (1, 1, "DIFFER")
    assert body["first"]["name"] == "logits"
    assert (body["first"]["index"], body["first"]["values"][0]) == ([1, 2, 3], "nan")
    assert body["first"]["offRows"] == [[1, 2]]
    assert [t["name"] for t in body["tensors"]] == list(open_trace(BASE))[1:]


def test_a_folder_that_is_no_trace_is_a_wrong_command(base, tmp_path):
    (tmp_path / "trace.safetensors").write_bytes(b"no")
    for folder, said in ((tmp_path / "none", "no folder"), (tmp_path, "cannot be read")):
        told = command(folder, base)
        assert (told.exit_code, told.stdout) == (2, "")
        assert said in told.stderr
        assert told.stderr.count("\n") == 1
    assert command(base).exit_code == 2
    for limit in ("nan", "-1", "inf"):
        told = command(base, base, "--limit", limit)
        assert told.exit_code == 2
        assert told.stderr.endswith("but must have a finite number >= 0\n")
