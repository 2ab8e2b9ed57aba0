"""A certificate: an in-toto statement about a candidate's files, and its verification.

Canonical JSON (sorted keys, no spaces), sealed by the SHA-256 of itself without the seal: any
changed byte is noticed. A seal is not a signature; sign the file with sigstore for that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from lingspec.conformance.accuracy.power import REJECTIONS, unproven
from lingspec.conformance.config import ConfigError
from lingspec.conformance.contract import Contract
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.mustpass import SPEC_VERSION, digest, required
from lingspec.conformance.runner.sources import locate
from lingspec.conformance.waivers import Waiver, today

__all__ = [
    "PREDICATE",
    "SPEC_VERSION",
    "CertificateError",
    "ExpiredWaiver",
    "contract_digest",
    "digests",
    "statement",
    "verify",
]

OFFLINE = "offline"  # in place of a module: a file by its path from where one stands
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:lingspec:certificate:1"


class CertificateError(ValueError):
    """A file that is not a certificate, or is no longer true."""


class ExpiredWaiver(CertificateError):  # noqa: N818 - a refusal, reported as such
    """A certificate that is true, but leans on a waiver that no longer holds."""


def digests(sources: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Subjects of a statement: each source file by module name and SHA-256."""
    subjects = []
    for module, file in sources:
        digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        subjects.append({"name": f"{module}:{Path(file).name}", "digest": {"sha256": digest}})
    return subjects


def contract_digest(of: Contract) -> str:
    """SHA-256 of what a contract promises: its data, and the files that say the rest."""
    told = {
        f.name: _words(getattr(of, f.name)) for f in fields(of)
        if not callable(getattr(of, f.name))
    }  # fmt: skip
    folder = Path(__file__).parent / "contracts"
    for file in (folder / f"{of.op}.py", *sorted(folder.glob("_[a-z]*.py"))):
        told[f"file {file.name}"] = file.read_text(encoding="utf-8")
    return hashlib.sha256(_canonical(told)).hexdigest()


def _words(value: Any) -> str:
    """Data as it is written, without functions, whose places in memory are no promise."""
    if isinstance(value, Mapping):
        return repr({key: _words(x) for key, x in value.items()})
    if isinstance(value, (set, frozenset)):
        return repr(sorted(value))
    if is_dataclass(value) and not isinstance(value, type):
        there = {f.name: getattr(value, f.name) for f in fields(value)}
        return repr({name: _words(x) for name, x in there.items() if not callable(x)})
    return repr(value)


def statement(subjects: list[dict[str, Any]], predicate: Mapping[str, Any]) -> bytes:
    """The bytes of a certificate."""
    body: dict[str, Any] = {
        "_type": STATEMENT, "subject": subjects, "predicateType": PREDICATE,
        "predicate": {**predicate, "specVersion": SPEC_VERSION},
    }  # fmt: skip
    body["predicate"]["seal"] = _seal(body)
    return _canonical(body) + b"\n"


def verify(path: Path) -> dict[str, Any]:
    """Check a certificate against the files and contracts that are here now.

    Returns:
        The statement.

    Raises:
        CertificateError: the file was edited or is truncated; a source file changed or is gone; a
            contract changed; a law or a number of cases that the manifest of the version
            requires is missing.
        ExpiredWaiver: all of that is in order, but a waiver has expired.
    """
    body = _parsed(path)
    seal = body["predicate"].pop("seal", None)
    if seal != _seal(body):
        raise CertificateError(f"{path} was changed after it was issued: its seal does not fit")
    predicate = body["predicate"]
    if predicate.get("specVersion") != SPEC_VERSION:
        raise CertificateError(
            f"{path} is for spec {predicate.get('specVersion')}; this is {SPEC_VERSION}"
        )
    try:
        _check_sources(path, body["subject"])
        if not body["subject"] or not predicate["ops"]:
            raise CertificateError(f"{path} names no file or no op that was tested")
        if predicate["requiredCases"] != digest():
            raise CertificateError(f"{path} was issued for another manifest of required cases")
        if predicate["notCovered"] != [op for op in OPS if op not in predicate["ops"]]:
            raise CertificateError(f"{path} does not say which ops it leaves out")
        for op, told in predicate["ops"].items():
            if op not in OPS or told["contract"] != contract_digest(contract(op)):
                raise CertificateError(f"{path} was issued for another contract of {op}")
            _check_coverage(path, op, told, predicate["profile"])
            _check_power(path, op, told)
        _check_waivers(path, predicate)
    except (AttributeError, KeyError, TypeError) as broken:
        raise CertificateError(f"{path} lacks what a certificate says: {broken}") from broken
    return body


def _check_power(path: Path, op: str, told: Mapping[str, Any]) -> None:
    for key in told["laws"]:
        if not told["power"][key] and not contract(op).algebra.bits:
            raise CertificateError(f"{path}: {key} of {op} proves no power")
        for name in unproven(told["power"][key], REJECTIONS):
            raise CertificateError(f"{path}: {key} of {op} does not reject {name!r} often enough")
        if not told["worst"][key] <= 1:
            raise CertificateError(f"{path}: {key} of {op} is outside its limits")


def _check_sources(path: Path, subjects: list[dict[str, Any]]) -> None:
    for subject in subjects:
        module, _, name = subject["name"].partition(":")
        file = Path(name) if module == OFFLINE else locate(module)
        if file is None or not file.is_file() or (module != OFFLINE and file.name != name):
            raise CertificateError(f"{path}: {name} of module {module} is not here")
        if hashlib.sha256(file.read_bytes()).hexdigest() != subject["digest"]["sha256"]:
            raise CertificateError(
                f"{path}: {name} of module {module} is not the file that was tested"
            )


def _check_coverage(path: Path, op: str, told: Mapping[str, Any], profile: str) -> None:
    laws_required = required(profile, op)
    if laws_required is None:
        raise CertificateError(f"{path}: profile {profile!r} is not sufficient for certification")
    if not told["laws"]:
        raise CertificateError(f"{path}: nothing of {op} was run")
    for dtype, laws in told["laws"].items():
        for law, asked in laws_required.items():
            row = laws.get(law)
            if row is None or sum(row.values()) < asked:
                raise CertificateError(f"{path}: {op} in {dtype} lacks cases of law {law}")
            if row.keys() - {"PASS", "NOT SUPPORTED", "WAIVED", "VOID" if "PASS" in row else ""}:
                raise CertificateError(f"{path}: {op} in {dtype} does not hold law {law}")


def _check_waivers(path: Path, predicate: Mapping[str, Any]) -> None:
    """That every case that is waived has a waiver, told in full, and that all of them hold."""
    try:
        waivers = [
            (Waiver.of_data({k: v for k, v in told.items() if k != "waived"}), told["waived"])
            for told in predicate["waivers"]
        ]
    except ConfigError as wrong:
        raise CertificateError(f"{path}: {wrong}") from wrong
    for op, told in predicate["ops"].items():
        for key, laws in told["laws"].items():
            candidate, dtype, _ = key.rsplit("/", 2)
            waived = sum(row.get("WAIVED", 0) for row in laws.values())
            if waived > sum(n for w, n in waivers if w.meets(op, candidate, dtype)):
                raise CertificateError(f"{path}: {key} of {op} has waived cases without a waiver")
    for waiver, _ in waivers:
        if waiver.expired(today()):
            raise ExpiredWaiver(f"{path}: expired waiver {waiver}")


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CertificateError(f"no certificate {path}")
    raw = path.read_bytes()
    try:
        body = json.loads(raw)
        known = body["_type"] == STATEMENT and body["predicateType"] == PREDICATE
        known = known and isinstance(body["predicate"], dict)
    except (ValueError, KeyError, TypeError, RecursionError) as broken:
        raise CertificateError(f"{path} is not a certificate: {broken}") from broken
    if not known:
        raise CertificateError(f"{path} is not a certificate of lingspec")
    if raw != _canonical(body) + b"\n":
        raise CertificateError(f"{path} was changed after it was issued: it is not canonical JSON")
    return body  # type: ignore[no-any-return] # a dict, as checked


def _seal(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(body)).hexdigest()


def _canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
