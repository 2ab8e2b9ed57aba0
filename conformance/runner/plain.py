"""A call as a script of the user's would make it: no guards, no poison, nothing of this suite.

A candidate that is right only where it is judged is right nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract
from lingspec.conformance.runner.host import CandidateInfo, Host
from lingspec.conformance.runner.server import START_TIMEOUT, TELLING
from lingspec.conformance.runner.targets import ADAPTERS

__all__ = ["call_plainly"]

OURS = ("mutants", "honest", *ADAPTERS)
EMULATED = "from lingspec.conformance import emulator\nemulator.install_on_import()\ndel emulator\n"
SCRIPT = """
import functools, importlib, importlib.metadata
import numpy, torch
from safetensors.torch import load_file, save_file

told = {told}
x = {{n: t.to(told["device"]) for n, t in load_file(told["inputs"]).items()}}
if told["array"] == "numpy":
    x = {{n: t.numpy() for n, t in x.items()}}
module, _, attribute = told["target"].partition(":")
if attribute:
    thing = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
else:
    thing = next(p for p in importlib.metadata.entry_points() if p.name == module).load()
f = thing if callable(thing) else getattr(thing, told["name"])
r = f(*[x.pop(n) for n in told["positional"]], **x, **told["params"])
r = list(r) if isinstance(r, (tuple, list)) else [r]
r = [torch.from_numpy(numpy.ascontiguousarray(t)) if isinstance(t, numpy.ndarray)
     else torch.from_dlpack(t) for t in r]
save_file({{n: t.detach().cpu().contiguous().clone() for n, t in zip(told["results"], r)}},
          told["outputs"])
"""


def call_plainly(
    host: Host, candidate: CandidateInfo, contract: Contract, call: Call, timeout: float
) -> dict[str, Tensor] | None:
    """What the candidate returns to a script, by name; None where that is nothing.

    What comes with this project is not asked, nor arrays in a dtype that NumPy has not, nor
    composites. Whatever the script needs and does not find is no evidence of anything: None as
    well.
    """
    numbers = candidate.array != "numpy" or all(
        x.dtype != torch.bfloat16 for x in call.tensors.values()
    )
    if host.target.partition(":")[0] in OURS or not numbers or contract.nested:
        return None
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "a"), Path(folder, "b")
        save_file({n: x.contiguous().clone() for n, x in call.tensors.items()}, inputs)
        told = {
            "target": host.target, "name": candidate.name, "array": candidate.array,
            "positional": list(contract.positional), "results": list(contract.results),
            "inputs": str(inputs), "outputs": str(outputs), "device": host.server.device,
        }  # fmt: skip
        script = SCRIPT.format(told=repr({**told, "params": dict(call.params)}))
        emulated = candidate.cost == "interpreted" and host.server.device == "cpu"
        _run((EMULATED if emulated else "") + script, START_TIMEOUT + timeout)
        try:
            return load_file(outputs) if outputs.is_file() else None
        except (SafetensorError, OSError, ValueError):
            return None


def _run(script: str, timeout: float) -> None:
    """In a new interpreter, which reads it from its input; a process group that ends with it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(TELLING)}
    with tempfile.TemporaryFile() as said, subprocess.Popen(
        [sys.executable, "-"], env=environment, stdin=subprocess.PIPE, stdout=said, stderr=said,
        start_new_session=True,
    ) as process:  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(script.encode(), timeout)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
