"""What a certifying run must have asked: a manifest a spec version, frozen as a file.

`python -m lingspec.conformance.mustpass` says whether the file of this version is what the code
asks; with `--write` it writes it, and its SHA-256 beside it, for `sha256sum -c`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from lingspec.conformance.accuracy.power import REJECTIONS
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.plan import COUNTS
from lingspec.conformance.run import laws_for

__all__ = ["CERTIFYING", "FOLDER", "SPEC_VERSION", "computed", "digest", "required"]

SPEC_VERSION = "2026.11"
FOLDER = Path(__file__).parent / "required"
CERTIFYING = ("ci", "full")  # profiles


def computed() -> bytes:
    """The manifest as the code has it: profile, op, law, and how many cases in every dtype."""
    asked = {
        profile: {op: _counts(op, COUNTS[profile]) for op in OPS} for profile in CERTIFYING
    }  # fmt: skip
    body = {
        "schema": "lingspec.required/1", "specVersion": SPEC_VERSION, "profiles": asked,
        "rejections": REJECTIONS,
    }  # fmt: skip
    return json.dumps(body, indent=1, sort_keys=True).encode() + b"\n"


def digest() -> str:
    """SHA-256 of the manifest's bytes, which certificates carry."""
    return hashlib.sha256(_file().read_bytes()).hexdigest()


def required(profile: str, op: str) -> Mapping[str, int] | None:
    """The laws of an op with their least number of cases; None where the manifest lacks it."""
    asked = json.loads(_file().read_bytes())["profiles"]
    found: Mapping[str, int] | None = asked.get(profile, {}).get(op)
    return found


def _counts(op: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {law: counts.get(law, counts["default"]) for law in laws_for(contract(op))}


def _file() -> Path:
    return FOLDER / f"{SPEC_VERSION}.json"


def main(arguments: list[str]) -> int:
    """Check the file of this version, or write it."""
    file, wanted = _file(), computed()
    if arguments == ["--write"]:
        file.write_bytes(wanted)
        told = f"{hashlib.sha256(wanted).hexdigest()}  {file.name}\n"
        file.with_name(file.name + ".sha256").write_text(told)
        print(told, end="")
        return 0
    if arguments:
        print(f"mustpass takes --write or nothing, not {' '.join(arguments)}", file=sys.stderr)
        return 2
    same = file.is_file() and file.read_bytes() == wanted
    print(f"{file.name} {'is' if same else 'is not'} what the code asks")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
