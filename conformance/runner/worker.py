"""The candidate's process: loads one target and calls it on what the judge sends."""

from __future__ import annotations

import inspect
import mmap
import os
import socket
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import torch
import torch.utils.dlpack
from torch import Tensor

from lingspec.conformance.runner import poison, targets
from lingspec.conformance.runner.arena import Slot, as_bytes
from lingspec.conformance.runner.arguments import field, nested
from lingspec.conformance.runner.kept import Kept
from lingspec.conformance.runner.protocol import Closed, digest, receive, restored, send
from lingspec.conformance.runner.sources import sources
from lingspec.conformance.runner.watch import Watch

__all__ = ["Worker"]


class Worker:
    """Serves requests on a socket until it closes."""

    def __init__(self, sock: socket.socket, device: str, watch: Watch) -> None:
        self.sock, self.device, self.watch, self.pid = sock, device, watch, os.getpid()
        self.candidates: list[targets.Candidate] = []
        self.bytes = torch.empty(0, dtype=torch.uint8)
        self.kept = Kept()
        self.baseline = set(sys.modules)
        self.earlier: list[tuple[str, Tensor]] = []  # results of the last call

    def serve(self) -> None:
        """Answer until the judge hangs up."""
        while True:
            try:
                request, _ = receive(self.sock)
                if request["do"] == "map":
                    self._map(request["size"])
                    reply, payload = {"status": "ok"}, b""
                else:
                    reply, payload = self._answer(request)
                    self.watch.look()
                if os.getpid() != self.pid:  # the candidate forked, and this is not the process
                    os._exit(0)
                send(self.sock, reply | {"nonce": request["nonce"]}, payload)
            except Closed:
                return

    def _answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        try:
            if request["do"] == "load":
                return self._load(request), b""
            if request["do"] == "supports":
                return {"status": "ok", "answer": self._supports(request)}, b""
            if request["do"] == "sources":
                return {"status": "ok", "sources": self._sources()}, b""
            if request["do"] == "again":
                return {"status": "ok", "before": self._digests()}, b""
            return self._call(request)
        except targets.TargetError as wrong:
            return {"status": wrong.kind, "error": str(wrong)}, b""
        except BaseException as error:
            words = _words(error)
            full = isinstance(error, MemoryError) or "can't allocate memory" in words["error"]
            return {"status": "memory" if full else "crash", **words}, b""

    # -- what is asked -----------------------------------------------------------------------

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        self.candidates = targets.load(
            request["target"], request["op"], backward=request["backward"]
        )
        return {"status": "ok", "candidates": [self._described(c) for c in self.candidates]}

    def _described(self, candidate: targets.Candidate) -> dict[str, Any]:
        d = candidate.declared
        emulated = self.device == "cpu" and "triton" in sys.modules
        profile = d.profile if d.profile is None or isinstance(d.profile, str) else dict(d.profile)
        try:
            parameters = list(inspect.signature(candidate.function).parameters.values())
            takes: list[list[Any]] | None = [
                [p.name, int(p.kind), p.default is not p.empty] for p in parameters
            ]
        except (TypeError, ValueError):
            takes = None
        return {
            "name": candidate.name,
            "op": d.op,
            "profile": profile,
            "backward": d.backward,
            "array": d.array,
            "cost": d.cost or ("interpreted" if emulated else "native"),
            "deterministic": d.deterministic,
            "batch_invariant": d.batch_invariant,
            "nan_safe": d.nan_safe,
            "chooses": d.supports is not None,
            "takes": takes,
            "extra": {k: v for k, v in d.extra.items() if isinstance(v, (str, int, float, tuple))},
        }

    def _supports(self, request: dict[str, Any]) -> bool | str:
        declared = self.candidates[request["candidate"]].declared
        if declared.supports is None:
            return True
        answer = declared.supports(SimpleNamespace(**request["case"]))
        if not isinstance(answer, (bool, str)):
            wrong = f"supports() returned {answer!r}, but must return True or the reason why not"
            raise targets.TargetError("usage", wrong)
        return answer

    def _sources(self) -> list[list[str]]:
        return sources(self.candidates, self.baseline)

    def _call(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        candidate = self.candidates[request["candidate"]]
        poison.select(request["poison"])
        if (emulator := sys.modules.get("lingspec.conformance.emulator")) is not None:
            emulator.select_config(request["config"])
            emulator.select_order(backward=request["backward"])
        inputs, whole = self._inputs(request)
        cotangents = {name: inputs.pop(name) for name in request["cotangents"]}
        array = candidate.declared.array
        given = {n: _given(x, array) for n, x in inputs.items()} | restored(request["params"])
        arguments = nested(given, request["nested"])
        positional = [arguments.pop(n) for n in request["positional"]]
        fields = {n: arguments.get(n.partition(".")[0]) for n in request["outputs"] if "." in n}
        before, launched = self._digests(), _launches()
        result = candidate.function(*positional, **arguments)
        nothing = result is None and not any("." not in n for n in request["outputs"])
        outputs = [] if nothing else _taken(result, array)
        outputs += _taken([field(holder, n) for n, holder in fields.items()], array)
        wrong = _wrong_type(outputs, request["outputs"])
        trained = any(inputs[name].numel() for name in request["grad"])  # of no element: nothing
        if not wrong and trained and not any(x.requires_grad for x in outputs):
            wrong = f"no result has a gradient, but must have those of {', '.join(request['grad'])}"
        wrong = wrong or self.kept.reshaped()
        if wrong:
            return {"status": "wrong", "error": wrong}, b""
        after = self._digests()
        if request["grad"]:
            self._another(candidate, request, inputs)  # between a call and its gradients
            named = dict(zip(request["outputs"], outputs, strict=True))
            outputs += _gradients(named, cotangents, [inputs[n] for n in request["grad"]])
        if self.device == "cuda":
            torch.cuda.synchronize()
            self.bytes[: whole.numel()].copy_(whole)
        told = {"launches": _launches() - launched, "before": before, "after": after}
        return self._reply(outputs, request["outputs"], told)

    def _another(
        self, candidate: targets.Candidate, request: dict[str, Any], inputs: dict[str, Tensor]
    ) -> None:
        """The same call on other values, whose gradients nobody asks for."""
        other = {
            n: x.detach().flip(-1).requires_grad_() if x.requires_grad else x
            for n, x in inputs.items()
        }
        given = {n: _given(x, candidate.declared.array) for n, x in other.items()}
        arguments = nested(given | restored(request["params"]), request["nested"])
        positional = [arguments.pop(n) for n in request["positional"]]
        candidate.function(*positional, **arguments)

    def _reply(
        self, outputs: list[Tensor], names: list[str], told: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        low, high = self.bytes.data_ptr(), self.bytes.data_ptr() + self.bytes.numel()
        shared = [o.numel() > 0 and low <= o.data_ptr() < high for o in outputs]
        described = [
            {"dtype": str(o.dtype).removeprefix("torch."), "shape": list(o.shape), "shared": s,
             "device": o.device.type, "layout": str(o.layout)}
            for o, s in zip(outputs, shared, strict=True)
        ]  # fmt: skip
        dense = [o.detach().cpu().contiguous() for o in outputs]
        payload = b"".join(map(_bytes, dense))
        self.earlier = [
            (n, o.detach()) for n, o, s in zip(names, outputs, shared, strict=False) if not s
        ]
        told |= {"modules": len(sys.modules)}
        return {"status": "ok", "outputs": described, **told}, payload

    def _digests(self) -> dict[str, str]:
        """Of the last call's results, as they are now; it is the judge who compares."""
        return {n: digest(_bytes(x.cpu().contiguous())) for n, x in self.earlier}

    # -- memory ------------------------------------------------------------------------------

    def _map(self, size: int) -> None:
        _, fds, _, _ = socket.recv_fds(self.sock, 1, 1)
        self.bytes = torch.frombuffer(mmap.mmap(fds[0], size), dtype=torch.uint8)
        os.close(fds[0])
        self.kept = Kept()

    def _inputs(self, request: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
        lists = ("shape", "strides")  # tuples, as what they are compared with
        slots = [Slot(**s | {k: tuple(s[k]) for k in lists}) for s in request["slots"]]
        whole = self.kept.memory(self.bytes[: request["used"]], self.device)
        _forbid_guards(whole.data_ptr(), slots, whole.numel())
        return self.kept.tensors(whole, slots, frozenset(request["grad"])), whole


def _bytes(x: Tensor) -> bytes:
    return bytes(as_bytes(x).numpy())


def _gradients(
    results: dict[str, Tensor], cotangents: dict[str, Tensor], leaves: list[Tensor]
) -> tuple[Tensor, ...]:
    """Of the results that have a cotangent; one that no leaf reaches sends back 0."""
    roots = {f"d{n}": x for n, x in results.items() if f"d{n}" in cotangents and x.requires_grad}
    if not roots:
        return tuple(torch.zeros_like(x) for x in leaves)
    given = [cotangents[name] for name in roots]
    return torch.autograd.grad(list(roots.values()), leaves, given, materialize_grads=True)


def _words(error: BaseException) -> dict[str, str]:
    """What an exception says, if it can be said."""
    kind = type(error).__name__
    try:
        return {
            "error": f"{kind}: {error}",
            "trace": "".join(traceback.format_exception(error)[-4:]),
        }
    except Exception:  # of its own __str__
        return {"error": f"{kind}, which cannot be printed", "trace": ""}


def _given(x: Tensor, array: str) -> Any:
    if array == "numpy":
        if x.dtype == torch.bfloat16:
            import ml_dtypes  # type: ignore[import-not-found,unused-ignore] # the candidate needs it

            return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return x.detach().numpy()
    return x


def _taken(result: Any, array: str) -> list[Any]:
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    if array != "torch":
        outputs = [_tensor(x, array) for x in outputs]
    # negated or conjugated views are what they stand for
    return [x.resolve_neg().resolve_conj() if type(x) is Tensor else x for x in outputs]


def _tensor(x: Any, array: str) -> Any:
    if array == "dlpack":
        return torch.utils.dlpack.from_dlpack(x)
    import numpy as np

    if not isinstance(x, np.ndarray):
        return x
    if x.dtype.name == "bfloat16":
        return torch.from_numpy(np.ascontiguousarray(x).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.ascontiguousarray(x))


def _wrong_type(outputs: list[Any], names: list[str]) -> str | None:
    if len(outputs) != len(names):
        count = f"{len(outputs)} value{'s' if len(outputs) != 1 else ''}"
        got = "None" if len(outputs) == 1 and outputs[0] is None else count
        return f"returned {got}, but must return {', '.join(names) or 'None'}"
    for x, name in zip(outputs, names, strict=True):
        if type(x) is not Tensor and type(x) is not torch.nn.Parameter:
            return (
                f"{name} is {type(x).__module__}.{type(x).__qualname__}, but must be torch.Tensor"
            )
        if x.layout != torch.strided:
            return f"{name} has layout {x.layout}, but must have torch.strided"
        if x.is_meta:
            return f"{name} is on device meta, but must have contents"
        if x.is_quantized:
            return f"{name} is quantized, {x.dtype}, but must be plain numbers"
    return None


def _launches() -> int:
    emulator = sys.modules.get("lingspec.conformance.emulator")
    return emulator.launches() if emulator is not None else 0


def _forbid_guards(base: int, slots: list[Slot], used: int) -> None:
    emulator = sys.modules.get("lingspec.conformance.emulator")
    if emulator is None or "triton" not in sys.modules:
        return
    ends = [(s.start, s.start + s.elements * getattr(torch, s.dtype).itemsize) for s in slots]
    edges = [(0, 0), *sorted(ends), (used, used)]
    gaps = [(a[1], b[0]) for a, b in zip(edges, edges[1:], strict=False) if b[0] > a[1]]
    emulator.forbid([(base + first, base + last) for first, last in gaps])
