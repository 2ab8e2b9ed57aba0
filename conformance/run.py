"""Targets, profiles and dtypes of a run: what a candidate declares, turned into work."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from lingspec.conformance.accuracy.profiles import DEFAULTS, Profile, UnknownProfileError, profile
from lingspec.conformance.case import DTYPES
from lingspec.conformance.contract import Contract
from lingspec.conformance.laws import law
from lingspec.conformance.runner.host import CandidateInfo, TargetRefused

__all__ = ["SHORT", "Part", "laws_for", "parts", "precision_of"]

SHORT = {str(d).removeprefix("torch."): short for short, d in DTYPES.items()}
# What is asked of a candidate that names no dtypes.
USUAL = ("float32", "bfloat16")


@dataclass(frozen=True)
class Part:
    """One candidate in one dtype."""

    candidate: CandidateInfo
    dtype: str  # a key of DTYPES
    profile: Profile


def parts(candidate: CandidateInfo, contract: Contract, precision: str | None = None) -> list[Part]:
    """The dtypes that ``candidate`` is asked for, with the precision profile of each.

    Raises:
        TargetRefused: a profile is unknown, or an argument of the op is missing.
    """
    _takes_all(candidate, contract)
    named = precision_of(precision) if precision else candidate.profile
    usual = [d for d in USUAL if d in contract.profiles] or list(contract.profiles)
    if named is None:
        by_dtype: Mapping[str, str] = {d: DEFAULTS[d] for d in usual}
    elif isinstance(named, str):
        by_dtype = dict.fromkeys(usual, named)
    else:
        by_dtype = {
            d: name for d, name in named.items() if d in contract.profiles or d not in SHORT
        }
    if not by_dtype:
        raise TargetRefused("usage", f"{candidate.name} declares a profile for no dtype")
    made = []
    for dtype, name in by_dtype.items():
        if dtype not in SHORT:
            raise TargetRefused(
                "usage", f"{candidate.name} declares dtype {dtype!r}; there are {', '.join(SHORT)}"
            )
        try:
            made.append(Part(candidate, SHORT[dtype], profile(name)))
        except UnknownProfileError as unknown:
            raise TargetRefused("usage", f"{candidate.name}: {unknown}") from unknown
        if dtype == "bfloat16" and candidate.array == "numpy" and not find_spec("ml_dtypes"):
            raise TargetRefused(
                "environment", f"{candidate.name} takes NumPy arrays, in bfloat16 too, which need "
                "the package ml_dtypes (or a `profile` without bfloat16)",
            )  # fmt: skip
    # Bits have one dtype and no roundings, whatever names were given.
    return [Part(candidate, "f32", profile("fp32"))] if contract.algebra.bits else made


def precision_of(text: str) -> str | dict[str, str]:
    """`--precision`: one name for all dtypes, or float32=tf32,bfloat16=bf16-tc."""
    if "=" not in text.split("+")[0]:
        return text
    pairs = [part.split("=", 1) for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise TargetRefused("usage", f"--precision is {text!r}, but must be NAME or DTYPE=NAME,…")
    return {dtype.strip(): name.strip() for dtype, name in pairs}


def laws_for(contract: Contract) -> tuple[str, ...]:
    """The laws whose algebra the op declares."""
    return tuple(name for name in contract.laws if law(name).declared(contract))


def _takes_all(candidate: CandidateInfo, contract: Contract) -> None:
    """That a call as the contract makes it fits, whatever the parameters are called."""
    if candidate.takes is None:
        return
    given = [
        inspect.Parameter(
            n, inspect._ParameterKind(kind), default=None if default else inspect.Parameter.empty
        )
        for n, kind, default in candidate.takes
    ]
    heads = [s.name.partition(".")[0] for s in contract.inputs]
    keywords = [n for n in (*heads, *contract.params) if n not in contract.positional]
    any_name = any(p.kind is p.VAR_KEYWORD for p in given)
    missing = [n for n in keywords if n not in {p.name for p in given}]
    if missing and not any_name:
        raise TargetRefused(
            "usage",
            f"{candidate.name} lacks argument {', '.join(missing)}, which {contract.op} has: "
            f"{contract.signature}",
        )
    try:
        inspect.Signature(given).bind(*contract.positional, **dict.fromkeys(keywords))
    except TypeError as wrong:
        raise TargetRefused(
            "usage",
            f"{candidate.name} cannot be called as {contract.op} is: {wrong}; "
            f"the signature is {contract.signature}",
        ) from None
