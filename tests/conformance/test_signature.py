"""A signature is asked of sigstore, over the bytes of the certificate; no answer is not a yes."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import ModuleType

import pytest
from click.testing import CliRunner

from lingspec.conformance import certificate as certificates
from lingspec.conformance import cli
from lingspec.conformance.certificate import CertificateError
from lingspec.conformance.signature import SignatureUnavailable, check

WHO = ("ada@example.org", "https://accounts.example.org")


class Error(Exception):
    pass


class VerificationError(Error):
    pass


class InvalidBundle(Error):  # noqa: N818 - sigstore's name
    pass


class Bundle:
    def __init__(self, told):
        self.told = told

    @classmethod
    def from_json(cls, raw):
        try:
            return cls(json.loads(raw))
        except ValueError as broken:
            raise InvalidBundle(f"failed to load\n bundle: {broken}") from broken


class Identity:
    def __init__(self, *, identity, issuer):
        self.who = [identity, issuer]


class Verifier:
    """As sigstore's: raises unless the bundle is of these bytes and that signer."""

    reachable = True

    @classmethod
    def production(cls, *, offline=False):
        if not offline and not cls.reachable:
            raise Error("no route to the roots")
        return cls()

    def verify_artifact(self, input_, bundle, policy):
        if bundle.told["who"] != policy.who:
            raise VerificationError("Certificate's SANs do not match")
        if bundle.told["of"] != input_.decode():
            raise VerificationError("Signature is invalid for input")


@pytest.fixture
def sigstore(monkeypatch):
    """A stand-in for the package, with the part of its interface that is used."""
    parts = {
        "sigstore": {}, "sigstore.errors": {"Error": Error, "VerificationError": VerificationError},
        "sigstore.models": {"Bundle": Bundle, "InvalidBundle": InvalidBundle},
        "sigstore.verify": {"Verifier": Verifier}, "sigstore.verify.policy": {"Identity": Identity},
    }  # fmt: skip
    for name, members in parts.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Verifier, "reachable", True)


@pytest.fixture
def signed(tmp_path):
    certificate, bundle = tmp_path / "certificate.json", tmp_path / "certificate.sigstore.json"
    certificate.write_text("a certificate")
    bundle.write_text(json.dumps({"who": WHO, "of": "a certificate"}))
    return certificate, bundle


def test_the_signer_s_bytes_pass(sigstore, signed):
    check(*signed, *WHO, offline=False)


def test_other_bytes_and_other_signers_do_not(sigstore, signed):
    with pytest.raises(CertificateError, match=r"is not signed by eve .* SANs do not match"):
        check(*signed, "eve", WHO[1], offline=True)
    signed[0].write_text("another certificate")
    with pytest.raises(CertificateError, match="Signature is invalid for input"):
        check(*signed, *WHO, offline=True)


def test_what_is_no_bundle_or_not_there_is_refused_in_one_line(sigstore, signed):
    with pytest.raises(CertificateError, match="no signature"):
        check(signed[0], signed[1].with_name("none"), *WHO, offline=True)
    with pytest.raises(CertificateError, match="no certificate"):
        check(signed[0].with_name("none"), signed[1], *WHO, offline=True)
    signed[1].write_text("no bundle")
    with pytest.raises(CertificateError, match="is not a Sigstore bundle: failed to load bundle"):
        check(*signed, *WHO, offline=True)


def test_roots_of_trust_that_cannot_be_had_are_no_verdict(sigstore, signed, monkeypatch):
    monkeypatch.setattr(Verifier, "reachable", False)
    check(*signed, *WHO, offline=True)
    with pytest.raises(SignatureUnavailable, match="no roots of trust: no route"):
        check(*signed, *WHO, offline=False)


def verified(*arguments):
    return CliRunner().invoke(cli.main, ["verify", *map(str, arguments)])


def asked(bundle):
    return "--signature", bundle, "--identity", WHO[0], "--issuer", WHO[1]


def test_without_the_package_nothing_is_verified_and_it_exits_4(signed, monkeypatch):
    for name in ("sigstore", "sigstore.errors"):
        monkeypatch.setitem(sys.modules, name, None)
    result = verified(signed[0], *asked(signed[1]))
    assert result.exit_code == 4
    assert "needs the package sigstore" in result.stderr
    assert "`pip install lingspec[sign]`" in result.stderr


def test_a_signer_is_named_whole_or_the_command_is_wrong(signed):
    for given in (asked(signed[1])[:4], asked(signed[1])[2:], ("--offline",)):
        result = verified(signed[0], *given)
        assert result.exit_code == 2
        assert "with --signature, --identity and --issuer" in result.stderr


def test_a_signature_does_not_make_a_certificate_true(sigstore, signed, monkeypatch):
    result = verified(signed[0], *asked(signed[1]))
    assert result.exit_code == 1
    assert "is not a certificate" in result.stderr
    body = {
        "subject": [{}],
        "predicate": {
            "target": "t", "profile": "ci", "device": "cpu", "seedDrawn": True, "ops": {"op": {}},
            "notCovered": [], "specVersion": "1", "requiredCases": "0", "waivers": [],
        },
    }  # fmt: skip
    monkeypatch.setattr(certificates, "verify", lambda path: body)
    result = verified(signed[0], *asked(signed[1]))
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"\n  signed by   {WHO[0]} ({WHO[1]})\n")
    refused = verified(signed[0], *asked(signed[1])[:5], "https://elsewhere.example.org")
    assert refused.exit_code == 1
    assert refused.stdout == ""


@pytest.mark.skipif(not importlib.util.find_spec("sigstore"), reason="sigstore is not installed")
def test_the_package_itself_refuses_what_is_no_bundle(signed):
    with pytest.raises(CertificateError, match="is not a Sigstore bundle"):
        check(*signed, *WHO, offline=True)
