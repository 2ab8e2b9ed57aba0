"""What several runs came to, as one page of Markdown: package by op by dtype by law."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.environment import OURS
from lingspec.conformance.laws import sentence
from lingspec.conformance.page import rendered
from lingspec.conformance.report import FAILURES
from lingspec.conformance.run import laws_for
from lingspec.conformance.text import again

__all__ = ["matrix"]

TEMPLATE = """\
# Certification matrix

Made by `{{ made_by }}`, from packages as released on PyPI.
Each was judged by `lingspec certify PACKAGE`, as it is, in the roundings that its own code makes: the column *roundings* is what it declares.

| package | versions | profile and seed | verdict | ops it has no part in |
|---|---|---|---|---|
{% for r in runs -%}
| `{{ r.target }}` | {{ versions(r) }} | {{ r.profile }}, {{ r.seed }} | {{ r.status }} | {{ r.notCovered | join(", ") }} |
{% endfor %}
With {{ common(runs[0]) }}.

A number is the cases in which a law held. **a of b** broke it. A dot: the package does not do what these cases ask, and says so. No entry: the law is not one of the op. VOID: not enough was shown for a verdict.
{% for op in ops %}
## {{ op.name }}

{{ op.summary[0] | upper }}{{ op.summary[1:] }}.

| package | candidate | dtype | roundings | device | verdict | {{ op.laws | join(" | ") }} |
|---|---|---|---|---|---|{{ "---|" * (op.laws | length) }}
{% for r, p in op.parts -%}
| {{ r.target }} | {{ p.candidate }} | {{ p.dtype }} | {{ p.precision }} | {{ p.device }} | {{ p.status }} |
{%- for law in op.laws %} {{ cell(p, law) }} |{% endfor %}
{% endfor %}
{%- for r, p in op.parts if p.shown %}
**{{ r.target }}, {{ p.candidate }}, {{ p.dtype }}**: {{ told(p) }}
Seen again by `{{ replay(r, p) }}`.
{% endfor %}{% endfor -%}
{% if findings %}
## Explained

{% for title, place in findings -%}
- [{{ title }}]({{ place }})
{% endfor %}{% endif -%}
"""  # noqa: E501 # lines of the page


def matrix(
    runs: Sequence[Mapping[str, Any]], *, made_by: str, findings: Path | None = None,
    beside: Path | None = None,
) -> str:  # fmt: skip
    """The page of what the results of ``runs`` hold.

    Args:
        runs:     What results.json of each holds.
        made_by:  The command that made them, for whoever reads the page.
        findings: A page whose headings begin with a package's name: those are linked.
        beside:   Where the page will lie, which links start from.

    Raises:
        RunnerError: the package that makes pages is not installed.
    """
    return rendered(
        TEMPLATE, html=False, runs=runs, made_by=made_by, ops=_ops(runs), cell=_cell, told=_told,
        replay=_replay, versions=_versions, common=_common,
        findings=_explained(runs, findings, beside) if findings else [],
    )  # fmt: skip


def _ops(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    ops = []
    for name in OPS:
        parts = [(r, p) for r in runs for p in r["parts"] if p["op"] == name]
        if parts:
            of = contract(name)
            ops.append({"name": name, "summary": of.summary, "laws": laws_for(of), "parts": parts})
    return ops


def _cell(part: Mapping[str, Any], law: str) -> str:
    counts = part["laws"].get(law, {})
    broken = sum(counts.get(status, 0) for status in FAILURES)
    asked = sum(n for status, n in counts.items() if status != "NOT SUPPORTED")
    if broken:
        return f"**{broken} of {asked}**"
    if counts.get("PASS"):
        return str(counts["PASS"])
    return "VOID" if asked else "·"


def _told(part: Mapping[str, Any]) -> str:
    f = part["shown"]
    words = f"{sentence(f['law'])}: {escape(f['text'], quote=False)}."  # a candidate's own words
    if f["got_want"]:
        words += f" {f['where']}: `{f['got_want']}`."
    return words + (f" It looks like this: {part['looksLike']}." if part["looksLike"] else "")


def _replay(run: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    asked = run["asked"]
    how = again(asked["target"], precision=asked["precision"], backward=asked["backward"])
    return f"lingspec replay {part['shown']['case']} {how}"


def _own(run: Mapping[str, Any]) -> list[str]:
    return [name for name in run["environment"] if name not in (*OURS, "python", "machine")]


def _versions(run: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {run['environment'][name]}" for name in _own(run))


def _common(run: Mapping[str, Any]) -> str:
    own = _own(run)
    told = {name: v for name, v in run["environment"].items() if name not in own}
    return ", ".join(f"{name} {version}" for name, version in told.items())


def _explained(
    runs: Sequence[Mapping[str, Any]], findings: Path, beside: Path | None
) -> list[tuple[str, str]]:
    """Headings that begin with the name of a package (mlx, mlx-lm), and the place of each."""
    place = Path(os.path.relpath(findings, beside.parent)) if beside else findings
    told = []
    for title in re.findall(r"^## (.+)$", findings.read_text(encoding="utf-8"), re.MULTILINE):
        if any(re.match(rf"{re.escape(r['target'])}(-\w+)?:", title) for r in runs):
            anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            told.append((title, f"{place.as_posix()}#{anchor}"))
    return told
