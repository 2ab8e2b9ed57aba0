"""How far a run is: a bar on a terminal, a line a minute where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Tick", "progress"]

EVERY = 60.0  # seconds between two lines of a log

# done, of how many, and of what
Tick = Callable[[int, int, str], None]


@contextmanager
def progress(*, quiet: bool, of: str = "cases") -> Iterator[Tick]:
    """What to call after every step of a run. On standard error; nothing if ``quiet``.

    ``of`` is what the steps are.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda *_: None
    elif not console.is_terminal:
        yield _lines(of)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(of, total=None)
            yield lambda done, total, what: bar.update(
                task, completed=done, total=total, description=what
            )


def _lines(of: str) -> Tick:
    last = time.monotonic()

    def tick(done: int, total: int, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            click.echo(f"lingspec: {done} of {total} {of}, now {what}", err=True)

    return tick
