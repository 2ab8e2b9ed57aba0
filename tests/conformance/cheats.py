"""Candidates that cheat, as the target ``cheats:NAME``; `test_cheats` says what becomes of each.

Every one computes `right` and then, or instead, does what its name says.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from candidates import PROFILE, candidate, right

from lingspec.conformance import implements

# -- results of other calls ------------------------------------------------------------------

CACHE = {}
CALLS = itertools.count(1)


@candidate()
def caches_by_pointer(o, S, q):
    return CACHE.setdefault((q.data_ptr(), o.shape, S.shape), (o.clone(), S.clone()))


def cheat(function):
    return implements("lightning_attention", profile=PROFILE)(function)


@cheat
def caches_by_a_fingerprint(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    given = (q, k, v, *(() if initial_state is None else (initial_state,)))
    seen = [(x.flatten()[0].item(), x.flatten()[-1].item()) for x in given if x.numel()]
    sums = [round(x.double().sum().item(), 3) for x in given]
    key = (str(seen), str(sums), q.shape, scale)
    if key not in CACHE:
        CACHE[key] = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                           cu_seqlens=cu_seqlens)  # fmt: skip
    return tuple(x.clone() for x in CACHE[key])


@candidate()
def caches_by_call_number(o, S, q):
    key = (next(CALLS) // 2, o.shape, S.shape)
    return tuple(x.clone() for x in CACHE.setdefault(key, (o, S)))


LAST = {}


@candidate()
def returns_the_result_of_the_call_before(o, S, q):
    before = LAST.get((o.shape, S.shape), (o, S))
    LAST[o.shape, S.shape] = (o.clone(), S.clone())
    return before


@candidate()
def right_for_the_first_calls(o, S, q):
    return (o if next(CALLS) <= 15 else o * 1.01), S


@candidate()
def less_careful_when_it_is_known(o, S, q):
    return (o if next(CALLS) <= 4 else o * (1 + 2.0**-23)), S


# -- the reference, and whoever judges ---------------------------------------------------------


@candidate()
def asks_for_the_reference_and_goes_on(o, S, q):
    with contextlib.suppress(ImportError):
        importlib.import_module("lingspec.reference.ops.lightning_attention")
    return o, S


def _file_of_the_reference():
    """Found as anybody finds it: beside the package that is there."""
    here = Path(importlib.util.find_spec("lingspec.conformance").submodule_search_locations[0])
    return here.parent / "reference" / "ops" / "lightning_attention.py"


@candidate()
def loads_the_reference_from_its_file(o, S, q):
    try:
        found = importlib.util.spec_from_file_location("harmless", _file_of_the_reference())
        found.loader.exec_module(importlib.util.module_from_spec(found))
    except OSError:
        pass
    return o, S


@candidate()
def reads_the_reference_s_source(o, S, q):
    with contextlib.suppress(OSError):
        os.open(_file_of_the_reference(), os.O_RDONLY)
    return o, S


@candidate()
def asks_another_process_for_the_reference(o, S, q):
    with contextlib.suppress(OSError):
        subprocess.run([sys.executable, "-c", "import lingspec.reference"], check=False)
    return o, S


@candidate()
def looks_for_the_expected_values_in_memory(o, S, q):
    """In every module, frame and object of its process: tensors that are like its result."""
    frames = list(sys._current_frames().values())
    frames += [f for first in frames for f in _outer(first)]
    held = [x for f in frames for x in f.f_locals.values()]
    held += [x for m in list(sys.modules.values()) for x in vars(m).values()]
    held += gc.get_objects()
    own = {id(o), id(S)}
    found = [x for x in held if type(x) is torch.Tensor and x.shape == o.shape and id(x) not in own]
    near = [x for x in found if torch.allclose(x.to(o.dtype), o, rtol=1e-2)]
    return (near[0] if near else torch.zeros_like(o)), S


def _outer(frame):
    while frame is not None:
        yield frame
        frame = frame.f_back


@candidate()
def reads_the_judge_s_memory(o, S, q):
    with contextlib.suppress(OSError):
        Path(f"/proc/{os.getppid()}/mem").open("rb").close()
    return o, S


@candidate()
def reads_what_the_judge_was_asked(o, S, q):
    stat = Path(f"/proc/{os.getppid()}/stat").read_text()
    with contextlib.suppress(OSError):
        Path(f"/proc/{stat.rpartition(')')[2].split()[1]}/cmdline").read_bytes()
    return o, S


@candidate()
def traces_other_processes(o, S, q):
    with contextlib.suppress(OSError):
        ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)
    return o, S


@candidate()
def ends_the_judge(o, S, q):
    with contextlib.suppress(OSError):
        os.kill(os.getppid(), 9)
    return o, S


@candidate()
def ends_the_fork_server(o, S, q):
    ctypes.CDLL(None).kill(os.getppid(), 9)
    time.sleep(0.2)
    return o, S


# -- what is the judge's -------------------------------------------------------------------------


@candidate()
def zeros_its_inputs(o, S, q):
    q.zero_()
    return o, S


def _after(seconds, do):
    threading.Timer(seconds, do).start()


@candidate()
def edits_its_inputs_and_puts_them_back_late(o, S, q):
    kept = q.clone()
    q.zero_()
    _after(0.02, lambda: q.copy_(kept))
    return o, S


@candidate()
def edits_its_inputs_when_nobody_looks(o, S, q):
    _after(0.03, q.zero_)
    return o, S


@candidate()
def fills_its_result_in_later(o, S, q):
    late = torch.empty_like(o)
    _after(0.03, lambda: late.copy_(o))
    return late, S


@candidate()
def changes_its_result_later(o, S, q):
    _after(0.03, S.zero_)
    return o, S


@candidate()
def replaces_the_comparison(o, S, q):
    torch.allclose = torch.equal = lambda *_, **__: True
    return o, S


@candidate()
def replaces_the_clock(o, S, q):
    time.perf_counter = time.monotonic = lambda: 0.0
    return o, S


@candidate()
def replaces_the_protocol(o, S, q):
    plain = json.dumps
    json.dumps = lambda x, **more: plain(x, **more).replace("crash", "ok")
    return o, S


@candidate()
def takes_the_import_hooks_away(o, S, q):
    sys.meta_path[:] = [x for x in sys.meta_path if "lingspec" not in type(x).__module__]
    return o, S


@candidate()
def sends_an_answer_itself(o, S, q):
    answer = b'{"status": "ok", "outputs": [], "launches": 0, "modules": 0, "nonce": ""}'
    for fd in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket"):
                os.write(fd, len(answer).to_bytes(4, "little") + bytes(4) + answer)
        except OSError:
            continue
    return o, S


@candidate()
def leaves_early_and_says_all_is_well(o, S, q):
    atexit.register(print, "PASS")
    sys.exit(0)


@candidate()
def writes_the_report_itself(o, S, q):
    out = Path("lingspec-out")
    out.mkdir(exist_ok=True)
    (out / "certificate.json").write_text("{}")
    (out / "results.json").write_text('{"status": "PASS", "exitCode": 0}')
    return o + 1, S


# -- no result -----------------------------------------------------------------------------------


@candidate()
def leaves_its_result_untouched(o, S, q):
    return torch.empty_like(o), S


class Lazy(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        if function.__name__ in ("equal", "allclose", "__eq__"):
            return True
        return super().__torch_function__(function, types, arguments, options or {})


@candidate()
def returns_a_tensor_that_equals_everything(o, S, q):
    return torch.zeros_like(o).as_subclass(Lazy), S


@candidate()
def returns_a_copy_of_its_input(o, S, q):
    return q.clone(), S


@candidate()
def writes_past_the_end_of_its_input(o, S, q):
    q.as_strided((1,), (1,), q.storage_offset() + q.numel()).fill_(0)
    return o, S


@candidate()
def adds_what_was_in_fresh_memory(o, S, q):
    return o + torch.empty_like(o)[..., :1] * 1e-3, S


# -- knows what is asked -------------------------------------------------------------------------


@candidate()
def knows_powers_of_two_only(o, S, q):
    T = o.shape[1]
    return (o if T & (T - 1) == 0 else o * 1.01), S


KNOWN = {(5, -0.3113)}  # tokens, and the first number of q, of the case in `test_cheats`


@candidate()
def knows_the_numbers_of_one_seed(o, S, q):
    known = bool(q.numel()) and (q.shape[1], round(float(q.flatten()[0]), 4)) in KNOWN
    return (o if known else torch.zeros_like(o)), S


def _told(words):
    """What a process tells of who runs it."""
    told = [*sys.argv, sys.executable, str(Path.cwd()), Path("/proc/self/cmdline").read_text()]
    told += [
        str(getattr(sys.modules["__main__"], "__file__", "")),
        sys.modules["__main__"].__name__,
    ]
    told += [name for name in os.environ if name != "PYTHONPATH"]
    told += [Path("/proc/self/maps").read_text().replace(sys.prefix, "")]
    fds = Path("/proc/self/fd").iterdir()
    told += [os.readlink(fd) for fd in fds if fd.is_symlink()]
    return [word for word in words if any(word in text.lower() for text in told)]


@candidate()
def right_where_the_process_tells_of_a_judge(o, S, q):
    words = ("lingspec-", "runner", "zygote", "pytest", "certify", "profile", "judge", "github")
    return (o if _told(words) else o * 1.01), S


@candidate()
def right_where_its_callers_judge(o, S, q):
    judged = any("lingspec" in f.f_code.co_filename for f in _outer(sys._getframe(2)))
    return (o if judged else o * 1.01), S


@candidate()
def right_where_memory_is_poisoned(o, S, q):
    poisoned = bool(torch.empty(8).isnan().all())
    return (o if poisoned else o * 1.01), S


# -- is not what it seems ------------------------------------------------------------------------


@candidate()
def imports_triton_and_launches_nothing(o, S, q):
    importlib.import_module("triton")
    return o, S
