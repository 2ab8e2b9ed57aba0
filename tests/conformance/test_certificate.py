"""A certificate holds until one byte of it, of what was tested, or of a contract changes."""

from __future__ import annotations

import copy
import importlib
import json

import pytest
from fewer import ask_fewer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lingspec.conformance import certificate as certificates
from lingspec.conformance.certificate import CertificateError, statement, verify
from lingspec.conformance.certify import run
from lingspec.conformance.contracts import OPS
from lingspec.conformance.output import write_all
from lingspec.conformance.report import Options
from lingspec.conformance.runner.host import TargetRefused

SOURCE = '''"""An honest candidate."""
import certified_help
from lingspec.conformance import implements

@implements("lightning_log_decay")
def honest(heads, layer, layers, *, origin=1):
    import certified_late  # in the call: not there when the run begins
    assert certified_late
    return certified_help.decay(heads, layer, layers, origin)
'''
HELP = """import math
import torch

def geometric(heads):
    first = 2 ** (-(2 ** -(math.log2(heads) - 3)))
    return [first * first**h for h in range(heads)]

def decay(heads, layer, layers, origin):
    power = 2 ** (heads.bit_length() - 1)
    slopes = geometric(power) + geometric(2 * power)[0::2][: heads - power]
    factor = torch.tensor(1 - (layer - origin) / (layers - 1) + 1e-5, dtype=torch.float32)
    return -torch.tensor(slopes, dtype=torch.float32) * factor
"""


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """A folder with a candidate, and its certificate."""
    folder = tmp_path_factory.mktemp("certified")
    (folder / "certified_candidate.py").write_text(SOURCE)
    (folder / "certified_help.py").write_text(HELP)
    (folder / "certified_late.py").write_text("import math\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder), prepend=":")
        ask_fewer(patch, folder / "required", "ci")
        importlib.invalidate_caches()
        report = run(Options("certified_candidate:honest"), lambda *_: None)
        assert report.status() == "PASS", report.parts[0].findings()
        path = write_all(report, folder / "out", None)
        assert path is not None
        yield folder, path
    importlib.invalidate_caches()


def test_what_was_certified_verifies(certified):
    body = verify(certified[1])
    names = [subject["name"] for subject in body["subject"]]
    assert names == [
        "certified_candidate:certified_candidate.py", "certified_help:certified_help.py",
        "certified_late:certified_late.py",
    ]  # fmt: skip
    assert body["predicate"]["target"] == "certified_candidate:honest"


def test_a_certificate_is_canonical_json_with_a_seal(certified):
    raw = certified[1].read_bytes()
    body = json.loads(raw)
    assert raw == json.dumps(body, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    predicate = {k: v for k, v in body["predicate"].items() if k not in ("seal", "specVersion")}
    assert statement(body["subject"], predicate) == raw


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data(), change=st.sampled_from(("other", "gone", "more")))
def test_a_certificate_with_any_byte_changed_is_refused(certified, data, change):
    raw = certified[1].read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.binary(min_size=1, max_size=1))
    rest = raw[at:] if change == "more" else raw[at + 1 :]
    edited = raw[:at] + (b"" if change == "gone" else byte) + rest
    path = certified[0] / "edited.json"
    path.write_bytes(edited)
    if edited == raw:
        verify(path)
        return
    with pytest.raises(CertificateError, match=r"edited\.json") as told:
        verify(path)
    assert "\n" not in str(told.value)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(share=st.floats(0, 1, exclude_max=True))
def test_no_part_of_a_certificate_is_one(certified, share):
    raw = certified[1].read_bytes()
    path = certified[0] / "part.json"
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(CertificateError):
        verify(path)


@pytest.mark.parametrize(
    "name", ["certified_candidate.py", "certified_help.py", "certified_late.py"]
)
def test_a_changed_or_missing_source_is_named(certified, name):
    source = certified[0] / name
    before = source.read_bytes()
    try:
        source.write_bytes(before.replace(b"import", b"import ", 1))
        with pytest.raises(CertificateError, match=f"{name} .* is not the file that was tested"):
            verify(certified[1])
        source.unlink()
        importlib.invalidate_caches()
        with pytest.raises(CertificateError, match=f"{name} .* is not here"):
            verify(certified[1])
    finally:
        source.write_bytes(before)
        importlib.invalidate_caches()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_changes_while_it_is_judged_is_not_certified(tmp_path, monkeypatch, workers):
    name = f"changes_{workers}"
    source = SOURCE.replace("    import certified_late", "    open(__file__, 'a').write('#')#")
    source = source.replace("    assert certified_late\n", "")
    source = source.replace("import certified_help", HELP).replace("certified_help.", "")
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(tmp_path)
    options = Options(f"{name}:honest", profile="smoke", workers=workers)
    with pytest.raises(TargetRefused, match=f"{name}.py was changed while it was judged"):
        run(options, lambda *_: None)


def resealed(certified, change) -> object:
    body = copy.deepcopy(json.loads(certified[1].read_bytes()))
    change(body)
    predicate = {k: v for k, v in body["predicate"].items() if k not in ("seal", "specVersion")}
    path = certified[0] / "resealed.json"
    path.write_bytes(statement(body["subject"], predicate))
    return path


def told(body):
    return body["predicate"]["ops"]["lightning_log_decay"]


def laws(body):
    return next(iter(told(body)["laws"].values()))


WAIVED = {
    "issue": "https://example.org/1", "reason": "a known fault", "owner": "somebody",
    "expires": "2999-12-31", "op": "lightning_log_decay", "waived": 1,
}  # fmt: skip
FORGED = {
    "no ops": (lambda b: b["predicate"]["ops"].clear(), "names no file or no op"),
    "no subjects": (lambda b: b["subject"].clear(), "names no file or no op"),
    "another contract": (lambda b: told(b).update(contract="0"), "for another contract"),
    "an unknown op": (
        lambda b: b["predicate"]["ops"].update(x=told(b)), "for another contract of x",
    ),
    "a smoke run": (lambda b: b["predicate"].update(profile="smoke"), "is not sufficient"),
    "no laws": (lambda b: told(b)["laws"].clear(), "nothing of lightning_log_decay was run"),
    "a law missing": (lambda b: laws(b).pop("untouched"), "lacks cases of law untouched"),
    "too few cases": (
        lambda b: laws(b).update(authority={"PASS": 2}), "lacks cases of law authority",
    ),
    "a failure": (
        lambda b: laws(b).update(authority={"PASS": 3, "FAIL": 1}), "does not hold law authority",
    ),
    "outside": (lambda b: told(b)["worst"].update(dict.fromkeys(told(b)["worst"], 1.5)), "outside"),
    "no power": (lambda b: told(b).pop("power"), "lacks what a certificate says"),
    "ops as a list": (
        lambda b: b["predicate"].update(ops=[1], notCovered=list(OPS)), "lacks what a certificate",
    ),
    "no manifest": (lambda b: b["predicate"].pop("requiredCases"), "lacks what a certificate says"),
    "another manifest": (
        lambda b: b["predicate"].update(requiredCases="0"), "for another manifest of required",
    ),
    "more than was judged": (
        lambda b: b["predicate"].update(notCovered=[]), "does not say which ops it leaves out",
    ),
    "waived by nobody": (
        lambda b: laws(b).update(untouched={"WAIVED": 1}), "has waived cases without a waiver",
    ),
    "a waiver without a day": (
        lambda b: b["predicate"].update(waivers=[{**WAIVED, "expires": "soon"}]), "no date in exp",
    ),
    "a waiver without a reason": (
        lambda b: b["predicate"].update(waivers=[{**WAIVED, "reason": ""}]), "has reason ''",
    ),
    "fewer waived than told": (
        lambda b: (
            b["predicate"].update(waivers=[{**WAIVED, "waived": 1}]),
            laws(b).update(authority={"PASS": 1, "WAIVED": 2}),
        ),
        "has waived cases without a waiver",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_a_statement_that_is_sealed_again_must_still_say_enough(certified, what):
    change, said = FORGED[what]
    with pytest.raises(CertificateError, match=said):
        verify(resealed(certified, change))


def test_a_statement_of_another_spec_is_refused(certified, monkeypatch):
    monkeypatch.setattr(certificates, "SPEC_VERSION", "1999.1")
    with pytest.raises(CertificateError, match=r"is for spec 2026\.11; this is 1999\.1"):
        verify(certified[1])


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"\xff", b'{"_type": 1}'])
def test_what_is_no_statement_is_said_not_to_be_one(tmp_path, content):
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(CertificateError, match="is not a certificate"):
        verify(path)


@pytest.mark.parametrize("options", [{"profile": "smoke"}, {"shard": (1, 2), "seed": 3}])
def test_a_smoke_run_and_a_shard_certify_nothing_and_take_an_older_certificate_away(
    certified, options
):
    out = certified[0] / "again"
    out.mkdir(exist_ok=True)
    (out / "certificate.json").write_text("an older one")
    report = run(Options("certified_candidate:honest", **options), lambda *_: None)
    assert report.status() == "PASS"
    assert write_all(report, out, None) is None
    assert sorted(p.name for p in out.iterdir()) == ["junit.xml", "results.json"]
