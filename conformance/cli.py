"""The command line.

Exit codes: 0 conforms, 1 does not, 2 the command was wrong, 3 inconclusive or incomplete, 4 the
environment cannot run it.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from lingspec.conformance.cli_certify import SECONDS
from lingspec.conformance.cli_certify import add as add_certification
from lingspec.conformance.cli_model import add

__all__ = ["main"]

EPILOG = "Exit codes: 0 conforms, 1 does not, 2 wrong command, 3 inconclusive, 4 cannot run here."


class _Group(click.Group):
    """Commands in the order of the manual; a wrong command is refused in one line."""

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None,
        complete_var: str | None = None, standalone_mode: bool = True, **extra: Any,
    ) -> Any:  # fmt: skip
        run: Callable[..., Any] = functools.partial(
            super().main, args, prog_name, complete_var, **extra
        )
        if not standalone_mode:
            return run(standalone_mode=False)
        try:
            code = run(standalone_mode=False)
        except click.exceptions.NoArgsIsHelpError as bare:
            bare.show()
            code = bare.exit_code
        except click.ClickException as wrong:
            code = _refuse(" ".join(wrong.format_message().split()), wrong.exit_code)
        except click.Abort:
            code = _refuse("stopped", 130)
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)


@click.group(cls=_Group, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lingspec")
def main() -> None:
    """Does this kernel compute Ling 2.5?"""
    sys.path.insert(0, str(Path.cwd()))


def _one_line(command: Callable[..., int]) -> Callable[..., None]:
    """Run a command; known refusals become one line and their exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from lingspec.conformance.bundle import BundleError
        from lingspec.conformance.case import CaseError
        from lingspec.conformance.certificate import CertificateError, ExpiredWaiver
        from lingspec.conformance.config import ConfigError
        from lingspec.conformance.contracts import UnknownOpError
        from lingspec.conformance.runner.host import RunnerError, TargetRefused
        from lingspec.conformance.signature import SignatureUnavailable
        from lingspec.reference import ContractError

        try:
            code = command(*args, **kwargs)
        except (BundleError, CaseError, ConfigError, UnknownOpError) as wrong:
            code = _refuse(wrong, 2)
        except TargetRefused as refused:
            code = _refuse(refused, {"environment": 4, "integrity": 1}.get(refused.kind, 2))
        except ExpiredWaiver as expired:
            code = _refuse(expired, 3)
        except CertificateError as untrue:
            code = _refuse(untrue, 1)
        except ContractError as refused:  # a case whose numbers the op does not allow
            code = _refuse(refused, 2)
        except (RunnerError, SignatureUnavailable, OSError) as unable:
            code = _refuse(unable, 4)
        except click.ClickException:
            raise
        except Exception as fault:  # of lingspec: no verdict, so not the exit code of one
            traceback.print_exc()
            code = _refuse(f"fault of lingspec itself, no verdict: {fault!r}", 4)
        sys.exit(code)

    return wrapped


def _refuse(error: Exception | str, code: int) -> int:
    click.echo(f"lingspec: {error}", err=True)
    return code


def _json_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, nothing else.")(
        command
    )


@main.command()
@_json_flag
@_one_line
def doctor(as_json: bool) -> int:
    """What is installed, what can run here."""
    from lingspec.conformance.doctor import examine, report

    found = examine()
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(report(found)))
    return 0 if found["ready"] else 4


@main.command()
@click.argument("op", required=False)
@_json_flag
@_one_line
def ops(op: str | None, as_json: bool) -> int:
    """The ops; one op's contract, laws, precision profiles."""
    from lingspec.conformance.explain import describe, overview

    told = overview() if op is None else describe(op)
    click.echo(json.dumps(told["data"], indent=1) if as_json else "\n".join(told["lines"]))
    return 0


def _shard(_: click.Context, __: click.Parameter, text: str) -> tuple[int, int]:
    if match := re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text):
        part, parts = int(match[1]), int(match[2])
        if 1 <= part <= parts:
            return part, parts
    raise click.BadParameter(f"{text!r} must be i/n with 1 <= i <= n")


add_certification(main, _one_line, _json_flag, _shard)


@main.command()
@click.argument("case")
@click.option("--target", help="The candidate; a bundle names its own.")
@click.option("--precision")
@click.option("--device", type=click.Choice(["cpu", "cuda"]))
@click.option("--timeout", type=SECONDS, help="Seconds for one call.")
@click.option("--backward", is_flag=True)
@_json_flag
@_one_line
def replay(case: str, as_json: bool, **given: Any) -> int:
    """One case again: CASE as printed, or a bundle's file. Exits 1 if a law is broken."""
    from lingspec.conformance.verbs.onecase import replay as run

    return run(case, as_json=as_json, given=given)


@main.command()
@click.argument("case")
@click.option("--target", help="The candidate; a bundle names its own.")
@click.option("--precision")
@click.option("--device", type=click.Choice(["cpu", "cuda"]))
@click.option("--timeout", type=SECONDS, help="Seconds for one call.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("lingspec-out")
)
@click.option("--backward", is_flag=True)
@_json_flag
@_one_line
def minimize(case: str, as_json: bool, **given: Any) -> int:
    """Make a failing case smaller, and write it as a bundle."""
    from lingspec.conformance.verbs.onecase import minimize as run

    return run(case, as_json=as_json, given=given)


@main.command()
@click.argument("op")
@click.option("--case", "case_text", help="Limits of this case; else of a typical one.")
@click.option("--precision", help="bf16-tc by default.")
@click.option("--compare", help="rtol=1e-2,atol=1e-2: what that allclose would let through.")
@_json_flag
@_one_line
def explain(
    op: str, case_text: str | None, precision: str | None, compare: str | None, as_json: bool
) -> int:
    """Where the limits come from."""
    from lingspec.conformance.explain import explain as tell

    told = tell(op, case_text, precision, compare)
    click.echo(json.dumps(told["data"], indent=1) if as_json else "\n".join(told["lines"]))
    return 0


@main.command("self-test")
@click.option("--op", "op_names", multiple=True)
@click.option("--profile", type=click.Choice(["smoke", "ci", "full"]), default="ci")
@click.option("--seed", type=click.IntRange(0), default=0)
@click.option("--only", multiple=True, help="Only targets whose name contains this.")
@click.option(
    "--sample", type=click.IntRange(1), help="A seeded sample of this many targets per op."
)
@click.option("-n", "--workers", type=click.IntRange(1), default=1)
@click.option("--list", "list_only", is_flag=True, help="Name the mutants and honest variants.")
@click.option(
    "--without", default="", metavar="LAW",
    help="Leave a law out: which of the mutants that name it live? Exits with 1 if none does.",
)  # fmt: skip
@_json_flag
@_one_line
def self_test(op_names: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """The suite against itself: mutants killed and survived, honest variants rejected."""
    from lingspec.conformance.verbs.self_test import self_test as run

    return run(op_names, as_json=as_json, given=given)


add(main, _one_line, _json_flag, _shard)


if __name__ == "__main__":
    main()
