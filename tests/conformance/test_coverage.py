"""The table of coverage names what was exercised, of everything that the contract offers."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from test_waivers import failed, part, waiver

from lingspec.conformance.contract import Algebra
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.coverage import compact, exercised, lines, tables
from lingspec.conformance.findings import Verdict
from lingspec.conformance.plan import plan
from lingspec.conformance.run import laws_for

ATTENTION = contract("lightning_attention")
DENSE = "lightning_attention:authority.f32.B1.T{T}.H2.K8.V8.slopes.normal.dense.1"
PACKED = "lightning_attention:packed.bf16.H2.K8.V8.n{n}.state.slopes.normal.dense.1"


def of(*texts):
    return exercised(ATTENTION, [ATTENTION.parse(text) for text in texts])


@pytest.mark.parametrize("op", OPS)
def test_every_attribute_that_a_contract_offers_is_in_the_table(op):
    it = contract(op)
    cases = plan(it, laws_for(it), "f32", "native", "ci", 3)
    table = exercised(it, cases)
    assert {"dtype", *it.traits, *it.flags, *it.axes} <= set(table)
    assert table["dtype"]["f32"] == len(cases)
    for kind, members in it.traits.items():
        assert list(table[kind]) == list(members)
        assert table[kind] == {m: sum(c.traits[kind] == m for c in cases) for m in members}
    for flag in it.flags:
        assert table[flag] == {
            "yes": sum(flag in c.flags for c in cases),
            "no": sum(flag not in c.flags for c in cases),
        }


def test_what_no_case_had_is_told():
    table = of(DENSE.format(T=5))
    assert table["dtype"] == {"f64": 0, "f32": 1, "bf16": 0, "f16": 0}
    assert table["layout"]["dense"] == 1
    assert set(table["layout"].values()) == {0, 1}
    assert compact(table)["packed"] == {"exercised": ["no"], "not": ["yes"]}
    assert compact(table)["lengths"]["exercised"] == []


@pytest.mark.parametrize(
    ("T", "shown"),
    [(0, None), (1, "1"), (63, "63"), (64, "0"), (65, "1"), (127, "63"), (128, "0"), (66, "other")],
)
def test_tokens_are_told_by_where_they_end_in_a_tile(T, shown):
    table = of(DENSE.format(T=T))
    assert [value for value, n in table["T mod 64"].items() if n] == ([shown] if shown else [])
    assert table["T"][str(T) if T < 2 else "other"] == 1


def test_every_sequence_of_a_packed_case_is_told_once():
    table = of(PACKED.format(n="0-64-1-1"))
    assert table["packed"] == {"yes": 1, "no": 0}
    assert table["sequences"] == {"0": 0, "1": 0, "more": 1}
    assert table["lengths"] == {"0": 1, "1": 1, "2 to 63": 0, "64 or more": 1}
    assert table["T mod 64"] == {"0": 1, "1": 1, "63": 0, "other": 0}
    assert table["state"] == {"yes": 1, "no": 0}
    assert of(PACKED.format(n=""))["sequences"]["0"] == 1


def test_the_ends_of_an_axis_are_told_one_by_one():
    assert list(of()["K"]) == ["8", "128", "other"]
    assert list(of()["B"]) == ["0", "1", "17", "other"]
    assert list(exercised(contract("lightning_log_decay"), [])["O"]) == ["0", "1"]


def test_a_contract_with_other_traits_and_axes_has_a_table_of_its_own():
    other = dataclasses.replace(
        ATTENTION, traits={"routing": ("even", "one expert")}, flags=("masked",),
        axes={"T": (1, 9), "E": (2, 256)}, algebra=Algebra(), profiles={"bfloat16": ("bf16-tc",)},
    )  # fmt: skip
    case = dataclasses.replace(
        ATTENTION.parse(DENSE.format(T=9)), axes={"T": 9, "E": 2}, traits={"routing": "even"},
        flags=frozenset({"masked"}), dtype="bf16",
    )  # fmt: skip
    assert exercised(other, [case]) == {
        "dtype": {"bf16": 1}, "routing": {"even": 1, "one expert": 0},
        "masked": {"yes": 1, "no": 0}, "T": {"1": 0, "9": 1, "other": 0},
        "E": {"2": 1, "256": 0, "other": 0},
        "T mod 64": {"0": 0, "1": 0, "63": 0, "other": 1},
    }  # fmt: skip


def test_only_cases_that_show_something_count():
    void, refused = (
        Verdict(DENSE.format(T=t), "authority", status)
        for t, status in ((2, "VOID"), (3, "NOT SUPPORTED"))
    )
    passed = Verdict(DENSE.format(T=1), "authority", "PASS")
    broken = failed("authority", case=DENSE.format(T=0))
    mine = waiver(cases="*.T0.*")
    (told,) = tables([part(void, refused, passed, broken)])
    assert (told["cases"], told["op"], told["candidate"]) == (2, "lightning_attention", "mine")
    (told,) = tables([part(void, refused, passed, broken, waivers=[mine])])
    assert told["cases"] == 1
    assert told["attributes"]["T"] == {"0": 0, "1": 1, "1025": 0, "other": 0}


def test_the_dtypes_of_a_candidate_are_one_table():
    ones = Verdict(DENSE.format(T=1), "authority", "PASS")
    halves = Verdict(DENSE.format(T=1).replace("f32", "bf16"), "authority", "PASS")
    (told,) = tables([part(ones, dtype="f32"), part(halves)])
    assert Counter(told["attributes"]["dtype"]) == Counter(f32=1, bf16=1)


def test_the_text_names_what_was_never_exercised():
    said = list(lines([part(Verdict(DENSE.format(T=64), "authority", "PASS"))], "kernels:mine"))
    assert said[0] == "coverage  lightning_attention · kernels:mine: 1 case"
    (row,) = [line for line in said if line.startswith("    T mod 64 ")]
    assert row.split(None, 3)[3] == "0 ×1; never 1, 63, other"
    (row,) = [line for line in said if line.startswith("    lengths ")]
    assert row.split(None, 1)[1] == "nothing; never 0, 1, 2 to 63, 64 or more"
