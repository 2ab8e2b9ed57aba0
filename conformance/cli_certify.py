"""The commands about certification: certify, its seeds and shards, and what checks the result."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from lingspec.conformance.cli_model import FOLDER, Wrap
from lingspec.conformance.laws import LAWS

__all__ = ["SECONDS", "add"]

FILE = click.Path(dir_okay=False, path_type=Path)


class _Report(click.Group):
    """`lingspec report DIR` is `lingspec report page DIR`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["page", *args]
        return super().parse_args(ctx, args)


class _Seconds(click.FloatRange):
    """A finite number of at least 1."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return seconds


SECONDS = _Seconds(1)


def add(main: click.Group, one_line: Wrap, json_flag: Wrap, shard: Any) -> None:
    """Put the commands into the command line; ``one_line`` turns refusals into exit codes."""
    _certify(main, one_line, json_flag, shard)
    _seed(main, one_line, json_flag)
    _verify(main, one_line, json_flag)
    _report(main, one_line, json_flag)
    _offline(main, one_line, json_flag)


def _certify(main: click.Group, one_line: Wrap, json_flag: Wrap, shard: Any) -> None:
    @main.command()
    @click.argument("target", required=False)
    @click.option("--op", "op_names", multiple=True, help="Only this op; may be repeated.")
    @click.option(
        "--profile", type=click.Choice(["smoke", "ci", "full"]), help="How long: ci by default."
    )
    @click.option("--device", type=click.Choice(["cpu", "cuda"]), help="cpu emulates Triton.")
    @click.option("--precision", help="A precision profile of `lingspec ops OP`, or DTYPE=NAME,…")
    @click.option("--backward", is_flag=True, help="An undecorated function has gradients.")
    @click.option("--seed", type=click.IntRange(0), help="Repeat a run.")
    @click.option("--seed-file", type=FILE, help="The seed that `lingspec seed` drew.")
    @click.option("--waivers", type=FILE, help="Failures that somebody answers for, as TOML.")
    @click.option("--out", type=FOLDER, help="lingspec-out by default.")
    @click.option("-n", "--workers", type=click.IntRange(1), help="Processes.")
    @click.option("--shard", default="1/1", callback=shard, help="i/n: every n-th case.")
    @click.option("--timeout", type=SECONDS, help="Seconds for one call.")
    @click.option(
        "--memory", type=click.FloatRange(1, 1 << 20),
        help="GiB for a process: 3/4 of what is free.",
    )  # fmt: skip
    @click.option("--fail-fast", is_flag=True, help="Do not ask a law again that was broken.")
    @click.option(
        "--law", "laws", multiple=True, type=click.Choice(LAWS),
        help="Only this law; may be repeated.",
    )  # fmt: skip
    @click.option("--coverage", is_flag=True, help="Print which attributes were exercised.")
    @click.option("--junitxml", type=FILE)
    @json_flag
    @one_line
    def certify(
        op_names: tuple[str, ...], as_json: bool, junitxml: Path | None, **given: Any
    ) -> int:
        """Judge TARGET.

        TARGET is kernels (ours, the default), reference, the name of an adapter, mutants:NAME,
        honest:NAME, or module:attribute.
        """
        from lingspec.conformance.verbs.certify import certify as run

        return run(op_names, as_json=as_json, junit=junitxml, given=given)


def _seed(main: click.Group, one_line: Wrap, json_flag: Wrap) -> None:
    @main.command()
    @click.argument("target", required=False)
    @click.option("--op", "op_names", multiple=True, help="As for certify.")
    @click.option("--device", type=click.Choice(["cpu", "cuda"]), help="As for certify.")
    @click.option("--precision", help="As for certify.")
    @click.option("--out", type=FILE, required=True, help="The file; it must not be there.")
    @json_flag
    @one_line
    def seed(op_names: tuple[str, ...], as_json: bool, out: Path, **given: Any) -> int:
        """Hash TARGET's files, then draw the seed that all shards of one run share.

        `lingspec certify TARGET --seed-file FILE --shard i/n` refuses any other files.
        """
        from lingspec.conformance.verbs.certify import draw_seed as run

        return run(op_names, out=out, as_json=as_json, given=given)


def _verify(main: click.Group, one_line: Wrap, json_flag: Wrap) -> None:
    @main.command()
    @click.argument("certificate", type=click.Path(path_type=Path))
    @click.option("--signature", type=FILE, help="A Sigstore bundle; needs lingspec[sign].")
    @click.option("--identity", help="Who must have signed: an address, or a workflow's URL.")
    @click.option("--issuer", help="Who knows that identity: the URL of its OpenID provider.")
    @click.option("--offline", is_flag=True, help="With the roots of trust that are here.")
    @json_flag
    @one_line
    def verify(certificate: Path, as_json: bool, **given: Any) -> int:
        """Check a certificate against the files that are here.

        Exits 0 where it holds, 1 where it does not, 3 where only a waiver of it has expired.
        """
        from lingspec.conformance.certificate import verify as check

        signer = _signed(certificate, **given)
        body = check(certificate)
        click.echo(json.dumps(body, indent=1) if as_json else _said(certificate, body) + signer)
        return 0


def _signed(
    certificate: Path, signature: Path | None, identity: str | None, issuer: str | None,
    offline: bool,
) -> str:  # fmt: skip
    """Check the signature, if one is given; who signed, as a line."""
    if signature is None and identity is None and issuer is None and not offline:
        return ""
    if signature is None or not identity or not issuer:
        raise click.UsageError("a signature is checked with --signature, --identity and --issuer")
    from lingspec.conformance.signature import check

    check(certificate, signature, identity, issuer, offline=offline)
    return f"\n  signed by   {identity} ({issuer})"


def _said(certificate: Path, body: dict[str, Any]) -> str:
    from lingspec.conformance.text import counted
    from lingspec.conformance.waivers import SCOPE

    told = body["predicate"]
    drawn = "drawn after they were hashed" if told["seedDrawn"] else "chosen by who ran it"
    files = counted(len(body["subject"]), "file")
    lines = [
        f"{certificate} holds: {told['target']}, profile {told['profile']}, device "
        f"{told['device']}, {files} unchanged, seed {drawn}",
        f"  covers      {', '.join(told['ops'])}",
        f"  not covered {', '.join(told['notCovered']) or 'nothing: every op of the spec is'}",
        f"  required    cases of spec {told['specVersion']}, manifest {told['requiredCases']}",
    ]
    for w in told["waivers"]:
        scope = ", ".join(w[key] for key in SCOPE if key in w)
        cases = counted(w["waived"], "case")
        why = f"{w['reason']}; {w['owner']}, until {w['expires']}"
        lines.append(f"  waived      {cases}: {w['issue']} ({scope}): {why}")
    return "\n".join(lines)


def _report(main: click.Group, one_line: Wrap, json_flag: Wrap) -> None:
    @main.group(cls=_Report)
    def report() -> None:
        """What runs left behind: as a page, side by side, or shards put together."""

    @report.command()
    @click.argument("folder", metavar="DIR", type=FOLDER)
    @click.option("--out", type=FILE, help="DIR/report.html by default.")
    @json_flag
    @one_line
    def page(folder: Path, out: Path | None, as_json: bool) -> int:
        """The results in DIR as one HTML file; `lingspec report DIR` for short."""
        from lingspec.conformance.page import page as made
        from lingspec.conformance.results import read

        results, out = read(folder), out or folder / "report.html"
        out.write_text(made(results), encoding="utf-8")
        told = {"page": str(out), "status": results["status"]}
        click.echo(json.dumps(told) if as_json else f"{results['status']}, in {out}")
        return 0

    @report.command()
    @click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=FOLDER)
    @click.option("--out", type=FILE, required=True, help="The page, in Markdown.")
    @click.option("--findings", type=FILE, help="A page that explains them: `## PACKAGE: ...`.")
    @click.option("--made-by", default="lingspec report matrix", help="What the page is made by.")
    @json_flag
    @one_line
    def matrix(folders: tuple[Path, ...], out: Path, as_json: bool, **given: Any) -> int:
        """The runs in DIR... beside each other: package by op by dtype by law."""
        from lingspec.conformance.matrix import matrix as made
        from lingspec.conformance.results import read

        runs = [read(folder) for folder in folders]
        out.write_text(made(runs, beside=out, **given), encoding="utf-8")
        told = {run["target"]: run["status"] for run in runs}
        said = ", ".join(f"{target} {status}" for target, status in told.items())
        click.echo(json.dumps({"page": str(out), "runs": told}) if as_json else f"{said}, in {out}")
        return 0

    @report.command()
    @click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=FOLDER)
    @click.option("--out", type=FOLDER, required=True, help="Where the whole report goes.")
    @click.option("--coverage", is_flag=True, help="Print which attributes were exercised.")
    @click.option("--junitxml", type=FILE)
    @json_flag
    @one_line
    def merge(folders: tuple[Path, ...], as_json: bool, junitxml: Path | None, **given: Any) -> int:
        """The shards in DIR... as one run: its report, its exit code, its certificate.

        Refuses what are not all shards of one run: of one seed, target, profile, device, of the
        same files and versions.
        """
        from lingspec.conformance.verbs.certify import merged as run

        return run(folders, as_json=as_json, junit=junitxml, given=given)


def _offline(main: click.Group, one_line: Wrap, json_flag: Wrap) -> None:
    @main.command()
    @click.option("--out", type=FOLDER, required=True, help="Where the calls are written.")
    @click.option("--op", "ops", multiple=True, help="Only this op; may be repeated.")
    @click.option(
        "--candidate", "files", multiple=True, type=click.Path(exists=True, path_type=Path),
        help="A file or folder of the candidate, hashed before the seed is drawn.",
    )  # fmt: skip
    @click.option("--name", default="candidate", help="What the candidate is called.")
    @click.option("--profile", type=click.Choice(["smoke", "ci", "full"]), default="ci")
    @click.option("--precision", help="A precision profile of `lingspec ops OP`, or DTYPE=NAME,…")
    @click.option("--seed", type=click.IntRange(0), help="Repeat a run; it is not drawn then.")
    @json_flag
    @one_line
    def cases(
        out: Path, ops: tuple[str, ...], files: tuple[Path, ...], name: str, profile: str,
        precision: str | None, seed: int | None, as_json: bool,
    ) -> int:  # fmt: skip
        """Write the calls of a run, for a candidate that runs elsewhere."""
        from lingspec.conformance.verbs.offline import cases as write

        return write(
            out, ops, files=files, profile_name=profile, name=name, precision=precision, seed=seed,
            as_json=as_json,
        )  # fmt: skip

    @main.command()
    @click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
    @click.option("--out", type=FOLDER, default=Path("lingspec-out"), show_default=True)
    @json_flag
    @one_line
    def judge(folder: Path, out: Path, as_json: bool) -> int:
        """Judge the answers beside the calls in FOLDER."""
        from lingspec.conformance.verbs.offline import judge as read

        return read(folder, out, as_json=as_json)
