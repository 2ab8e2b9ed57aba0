"""Dtypes, rounding points, projections."""

import ast
from pathlib import Path

import pytest
import torch
from drawing import normal
from small import SMALL, weights

from lingspec.reference import LingModel, at, rounding
from lingspec.reference.rounding import POINTS, casting_to
from lingspec.reference.weights import linear

IDS = torch.tensor([[5, 9, 7]])
REFERENCE = Path(__file__).parents[2] / "reference"


@pytest.mark.statement("PREC-2", "PREC-3")
def test_points_ask_the_policy_inside_and_nobody_outside():
    x, asked = normal(3), []

    def policy(point, tensor):
        asked.append(point)
        return tensor + 1

    assert at("scores", x) is x
    with rounding(policy):
        assert torch.equal(at("scores", x), x + 1)
    assert at("scores", x) is x
    assert asked == ["scores"]


@pytest.mark.statement("PREC-3")
def test_every_point_of_the_reference_is_listed_and_every_listed_one_used():
    used = {
        node.args[0].value
        for path in REFERENCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "at"
        and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    assert used == set(POINTS)


@pytest.mark.statement("PREC-3")
def test_the_model_asks_by_names_that_are_listed():
    asked = set()
    with rounding(lambda point, x: (asked.add(point), x)[1]):
        LingModel(SMALL, weights())(IDS)
    assert {"qk", "state", "rotated", "expert", "normed"} <= asked <= set(POINTS)


@pytest.mark.statement("PREC-4")
def test_casting_rounds_at_the_points_it_names_alone():
    x = normal(9).float()
    policy = casting_to(torch.bfloat16, {"qk"})
    assert torch.equal(policy("qk", x), x.bfloat16().float())
    assert policy("scores", x) is x
    model = LingModel(SMALL, weights())
    plain = model(IDS)
    with rounding(casting_to(torch.bfloat16, ())):
        assert torch.equal(model(IDS), plain)
    with rounding(policy):
        assert not torch.equal(model(IDS), plain)


@pytest.mark.statement("PREC-5")
def test_a_bias_is_added_before_the_one_rounding():
    x, w, b = (normal(*s, seed=n).bfloat16() for n, s in enumerate([(9, 16), (8, 16), (8,)]))
    w = {"p.weight": w, "p.bias": b}
    exact = x.double() @ w["p.weight"].double().T + b.double()
    got = linear(x, w, "p")
    assert torch.equal(got, exact.bfloat16())
    assert not torch.equal(got, (exact - b.double()).bfloat16() + b)
