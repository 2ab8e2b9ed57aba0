"""Tables, page and plot of `checkers.py`, from what it measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rules import RULES

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
HEADER = (
    "rule", "honest runs rejected", "mutants never rejected", "observable runs accepted",
    "runs outside honest ones accepted",
)  # fmt: skip


def table(told: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row a rule: counts with their percentages."""
    return [
        (
            name,
            share(rule["honestRuns"], told["honestRuns"]),
            share(len(rule["never"]), told["mutants"]),
            share(rule["observable"], told["observable"]),
            share(rule["outside"], told["outside"]),
        )
        for name, rule in told["rules"].items()
    ]


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / max(whole, 1):.1%})"


def plain(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def summary(dtype: str, told: dict[str, Any]) -> str:
    return (
        f"{dtype}, profile {told['profile']}: {len(told['cases'])} cases; {told['honest']} honest "
        f"variants, {told['honestRuns']} runs; {told['mutants']} mutants that show; of "
        f"{told['mutantRuns']} runs of all mutants {told['observable']} are observable and "
        f"{told['outside']} outside honest ones"
    )


def never(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Rules by mutant that they never rejected."""
    names = sorted({m for rule in told["rules"].values() for m in rule["never"]})
    for mutant in names:
        yield mutant, ", ".join(n for n, rule in told["rules"].items() if mutant in rule["never"])


def markdown(result: dict[str, Any]) -> str:
    found = result["environment"]
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", "torch", "machine"))
    lines = [
        f"Seed {result['seed']}, {result['casesEach']} cases for each dtype; {versions}.", "",
        "| rule | accepts a tensor if |", "|---|---|",
        *(f"| {rule.name} | {rule.text.replace('|', chr(92) + '|')} |" for rule in RULES),
    ]  # fmt: skip
    for dtype, told in result["scores"].items():
        lines += ["", f"{summary(dtype, told)}.", ""]
        lines += [f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in table(told)]
    lines += ["", "Honest variants that `lingspec` rejected: " + (rejected(result) or "none") + "."]
    for dtype, told in result["scores"].items():
        lines += ["", f"Mutants that some rule never rejected, {dtype}:", ""]
        lines += ["| mutant | never rejected by |", "|---|---|"]
        lines += [f"| `{mutant}` | {rules} |" for mutant, rules in never(told)]
        left = ", ".join(f"`{name}`" for name in told["leftOut"]) or "none"
        lines += ["", f"Left out, since they do not show in any of the cases, {dtype}: {left}."]
    lines += ["", "The cases:", "", "```"]
    lines += [case for told in result["scores"].values() for case in told["cases"]]
    return "\n".join([*lines, "```"]) + "\n"


def rejected(result: dict[str, Any]) -> str:
    ours = [r for r in result["runs"] if r["kind"] == "honest" and not r["accepted"][-1]]
    return ", ".join(f"`{r['name']}` on `{r['case']}`" for r in ours)


def plot(result: dict[str, Any], folder: Path, *formats: str) -> None:
    """Three bars a rule, one panel a dtype, as checkers.svg or checkers.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "lingspec"
    mpl.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    bars = (
        ("honest runs rejected", "#d55e00", "honestRuns", "honestRuns"),
        ("mutants never rejected", "#0072b2", "never", "mutants"),
        ("observable runs accepted", "#999999", "observable", "observable"),
    )
    figure, panels = plt.subplots(
        1,
        len(result["scores"]),
        figsize=(11, 6.5),
        sharex=True,
        sharey=True,
        constrained_layout=True,
    )
    for panel, (dtype, told) in zip(panels, result["scores"].items(), strict=True):
        for n, (label, colour, part, whole) in enumerate(bars):
            counts = [
                len(r[part]) if isinstance(r[part], list) else r[part]
                for r in told["rules"].values()
            ]
            shares = [100 * c / max(told[whole], 1) for c in counts]
            places = [y + 0.27 * (n - 1) for y in range(len(RULES))]
            drawn = panel.barh(places, shares, height=0.25, color=colour, label=label)
            texts = [f"{x:.1f}" if c else "0" for x, c in zip(shares, counts, strict=True)]
            panel.bar_label(drawn, texts, padding=2, fontsize=6.5)
        panel.set_title(f"{dtype} inputs, {len(told['cases'])} cases", fontsize=10)
        panel.set_xlabel("percent")
        panel.margins(x=0.1)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(RULES)), [rule.name for rule in RULES])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    for form in formats:
        extra = {"metadata": {"Date": None}} if form == "svg" else {}
        figure.savefig(folder / f"checkers.{form}", dpi=150, **extra)
    plt.close(figure)


def put(page: Path, measured: str) -> None:
    """What was measured, between the two marks of a page."""
    text = page.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} must have lines {BEGIN} and {END}")
    page.write_text(f"{head}{begin}\n{measured}{end}{tail}")
