"""A run that is killed leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN = ("certify", "reference", "--op", "lightning_attention", "--profile", "full", "-n", "2")


def alive(session):
    """Processes of a session that are not yet to be reaped."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its = place.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it ended just now
            continue
        if int(its) == session and state != "Z":
            found.append(int(place.parent.name))
    return found


def waited(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)
    return condition()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are counted in /proc")
def test_workers_end_with_the_run_that_started_them(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-m", "lingspec.conformance", *RUN], cwd=tmp_path, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert waited(lambda: len(alive(run.pid)) >= 8, 90)  # fork servers, workers, candidates
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert waited(lambda: not alive(run.pid), 30)
    finally:
        for left in alive(run.pid):
            os.kill(left, signal.SIGKILL)
