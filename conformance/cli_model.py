"""The commands about the model as a whole: its sizes, its weights, its goldens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["add"]

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
_ABOVE_0 = click.FloatRange(0, min_open=True)
FOLDER = click.Path(file_okay=False, path_type=Path)


def add(main: click.Group, one_line: Wrap, json_flag: Wrap, shard: Any) -> None:
    """Put the commands into the command line; ``one_line`` turns refusals into exit codes."""

    @main.command()
    @click.argument("preset_or_file", default="ling-2.5-1t")
    @click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Also draw it.")
    @json_flag
    @one_line
    def model(preset_or_file: str, as_json: bool, plot: Path | None) -> int:
        """Layers, parameters, caches and FLOPs of a preset or a config.json."""
        from lingspec.conformance.verbs.model import model as tell

        return tell(preset_or_file, as_json=as_json, plot=plot)

    @main.command()
    @click.argument("preset_or_file", default="ling-2.5-1t")
    @click.option("--out", type=FOLDER, help="Write shards, an index and config.json there.")
    @click.option("--seed", type=click.IntRange(0), default=0, help="Another seed, other weights.")
    @click.option("--shard", default="1/1", callback=shard, help="i/n: every n-th shard.")
    @click.option(
        "--shard-size", type=click.FloatRange(0, min_open=True), default=4.0, help="GB of a shard."
    )
    @click.option("--digests", is_flag=True, help="Write nothing; print SHA-256 of tensors.")
    @click.option("--only", default="*", help="Digests of the tensors that match this pattern.")
    @click.option("--array", type=click.Choice(["torch", "numpy"]), default="torch")
    @click.option("--recipes", is_flag=True, help="Print how the numbers are made.")
    @json_flag
    @one_line
    def synth(preset_or_file: str, as_json: bool, **given: Any) -> int:
        """The synthetic checkpoint, as files or as digests."""
        from lingspec.conformance.verbs.synth import synth as run

        return run(preset_or_file, as_json=as_json, given=given)

    @main.command()
    @click.argument("a", type=click.Path(path_type=Path))
    @click.argument("b", type=click.Path(path_type=Path))
    @click.option("--limit", type=float, help="Relative, for a tensor; else of the precision.")
    @click.option("--all", "everything", is_flag=True, help="All tensors, not the worst of a kind.")
    @json_flag
    @one_line
    def compare(a: Path, b: Path, limit: float | None, everything: bool, as_json: bool) -> int:
        """Where trace A parts from trace B: two folders, of one call.

        Exits 0 where they agree, 1 where they differ, 3 where one lacks tensors of the other.
        """
        from lingspec.conformance.verbs.compare import compare as run

        return run(a, b, limit=limit, as_json=as_json, everything=everything)

    _golden(main, one_line, json_flag)


def _golden(main: click.Group, one_line: Wrap, json_flag: Wrap) -> None:
    @main.group()
    def golden() -> None:
        """Outputs that are kept as authority: list, check, record."""

    @golden.command("list")
    @json_flag
    @one_line
    def listed(as_json: bool) -> int:
        """What there is."""
        from lingspec.conformance.verbs.golden import listed as run

        return run(as_json=as_json)

    @golden.command()
    @click.option("--golden", "names", multiple=True, help="A run of the model; may be repeated.")
    @click.option("--layers", type=click.IntRange(1), help="Run so many of its layers.")
    @json_flag
    @one_line
    def check(names: tuple[str, ...], as_json: bool, layers: int | None) -> int:
        """Make goldens again: those of the ops, or the runs of the model that are named."""
        from lingspec.conformance.verbs.golden import check as run

        return run(names, layers=layers, as_json=as_json)

    @golden.command()
    @click.argument("preset", default="ling-2.5-1t")
    @click.option("--reason", required=True, help="Why; kept with the golden.")
    @click.option("--prompt", type=click.IntRange(1), default=16, help="Tokens of the first call.")
    @click.option("--steps", type=click.IntRange(0), default=4, help="Tokens behind, one by one.")
    @click.option("--seed", type=click.IntRange(0), default=0, help="Of the synthetic weights.")
    @click.option("--out", type=FOLDER, help="Not among the goldens of the project, but there.")
    @json_flag
    @one_line
    def record(preset: str, reason: str, out: Path | None, as_json: bool, **given: Any) -> int:
        """Run a model at its true size on synthetic weights, and keep what came out."""
        from lingspec.conformance.verbs.golden import record as run

        return run(preset, reason=reason, out=out, as_json=as_json, given=given)
