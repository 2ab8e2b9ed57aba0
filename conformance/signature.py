"""A detached signature of a certificate: a Sigstore bundle, checked by the package `sigstore`.

Signing is a step of its own, with a tool of its own: a seal shows that a certificate was changed,
a signature who stands for it.
"""

from __future__ import annotations

from pathlib import Path

from lingspec.conformance.certificate import CertificateError

__all__ = ["SignatureUnavailable", "check"]


class SignatureUnavailable(RuntimeError):  # noqa: N818 - a refusal, reported as such
    """No signature can be checked here."""


def check(certificate: Path, bundle: Path, identity: str, issuer: str, *, offline: bool) -> None:
    """Check that ``identity``, as ``issuer`` knows it, signed the bytes of a certificate.

    ``offline`` takes the roots of trust that `sigstore` has here; else it asks for newer ones.

    Raises:
        CertificateError: it was signed by somebody else, or is not what was signed.
        SignatureUnavailable: `sigstore` is not installed, or cannot have its roots of trust.
    """
    try:
        from sigstore.errors import Error
        from sigstore.models import Bundle, InvalidBundle
        from sigstore.verify import Verifier
        from sigstore.verify.policy import Identity
    except ImportError as missing:
        raise SignatureUnavailable(
            f"--signature needs the package sigstore: {missing}; `pip install lingspec[sign]`"
        ) from missing
    if not certificate.is_file():
        raise CertificateError(f"no certificate {certificate}")
    if not bundle.is_file():
        raise CertificateError(f"no signature {bundle}")
    try:
        signed = Bundle.from_json(bundle.read_bytes())
    except InvalidBundle as wrong:
        raise CertificateError(f"{bundle} is not a Sigstore bundle: {_line(wrong)}") from wrong
    try:
        verifier = Verifier.production(offline=offline)
    except Error as unable:
        raise SignatureUnavailable(f"sigstore has no roots of trust: {_line(unable)}") from unable
    try:
        policy = Identity(identity=identity, issuer=issuer)
        verifier.verify_artifact(certificate.read_bytes(), signed, policy)
    except Error as wrong:
        raise CertificateError(
            f"{certificate} is not signed by {identity} ({issuer}) in {bundle}: {_line(wrong)}"
        ) from wrong


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
