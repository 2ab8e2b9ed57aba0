"""The rules of other checkers, as `benchmarks/checkers.py` compares them with ours."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.contracts import contract

FILE = Path(__file__).parents[2] / "benchmarks" / "rules.py"
CASE = "lightning_attention:authority.bf16.B1.T64.H2.K16.V24.state.slopes.normal.dense.5"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rules", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


rules = loaded()
BY_NAME = {rule.name: rule for rule in rules.RULES}
BLIND_TO_DTYPE = {name for name, rule in BY_NAME.items() if not rule.typed}


@pytest.fixture(scope="module")
def sample():
    of = contract("lightning_attention")
    call = of.make(of.parse(CASE))
    want = of.authority(call, profile("bf16-tc"))["o"]
    honest = [v["o"] for v in of.variants(call, profile("bf16-tc"))]
    ref = want.value.to(torch.bfloat16)
    return rules.Sample(ref, want, ref, honest, honest[1], honest[1], low=True)


def accepted(sample, got):
    changed = rules.Sample(**{**vars(sample), "got": got})
    return {name for name, rule in BY_NAME.items() if rule(changed)}


def test_every_rule_accepts_its_own_reference(sample):
    assert accepted(sample, sample.ref) == set(BY_NAME)


@pytest.mark.parametrize(
    "spoil",
    [torch.zeros_like, lambda x: x.fill_(math.nan), lambda x: -x, lambda x: x[..., :-1]],
    ids=["zeros", "nan", "negated", "shape"],
)
def test_no_rule_accepts_what_is_gross(sample, spoil):
    large = rules.Sample(**{**vars(sample), "ref": 4 * sample.ref.sign() + sample.ref})
    got = spoil(large.ref.clone())
    assert accepted(large, got) == set()


def test_one_value_that_is_not_a_number_is_enough(sample):
    got = sample.ref.clone()
    got[0, 0, 0, 0] = math.nan
    assert accepted(sample, got) == set()


def test_rules_that_compare_values_alone_accept_another_dtype(sample):
    assert accepted(sample, sample.ref.float()) == BLIND_TO_DTYPE


@pytest.mark.parametrize(
    ("name", "below", "above"),
    [
        ("KernelBench", 1.9e-2, 2.1e-2),  # 1e-2 + 1e-2 * 1
        ("flashinfer-bench", 0.9e-2, 1.1e-2),
        ("SOL-ExecBench", 1.9e-2, 2.1e-2),
        ("fla", 0.0049, 0.0051),
        ("fla in CI", 0.29, 0.31),
        ("calc_diff", 0.045, 0.047),  # d^2 / (1 + (1 + d)^2) = 1e-3 at d = 0.0458
        ("cuLA", 0.049, 0.051),
    ],
)
def test_the_constant_of_a_rule_is_where_it_changes_its_mind(sample, name, below, above):
    ones = torch.ones(1, 10, 1, 10)
    at_ones = {**vars(sample), "ref": ones, "want": None}
    assert BY_NAME[name](rules.Sample(**{**at_ones, "got": ones + below}))
    assert not BY_NAME[name](rules.Sample(**{**at_ones, "got": ones + above}))


def test_a_share_of_elements_may_be_anything_where_a_share_must_match(sample):
    ones = torch.ones(1, 10, 1, 10)
    got = ones.clone()
    got[0, 0, 0, 0] = 100.0
    run = rules.Sample(**{**vars(sample), "ref": ones, "got": got, "want": None})
    assert BY_NAME["SOL-ExecBench"](run)
    got[0, 0, 0, 1] = 100.0
    assert not BY_NAME["SOL-ExecBench"](run)


def test_a_baseline_grants_twice_its_error(sample):
    ones = torch.ones(1, 4, 1, 4)
    at_ones = {**vars(sample), "ref": ones, "pairs": ones + 0.1, "want": None}
    rule = BY_NAME["FlashAttention (pairs)"]
    assert rule(rules.Sample(**{**at_ones, "got": ones + 0.199}))
    assert not rule(rules.Sample(**{**at_ones, "got": ones + 0.201}))
