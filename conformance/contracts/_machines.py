"""Machines: histories of requests, for the law of sequences.

Letters as in the specification: B batch, T tokens, H heads, K key dim, V value dim, P slots, N
sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.case import Call, Case, dtype_of

__all__ = ["LOUD", "MOST", "STEPS", "Memories", "Pool", "normal", "pick_one"]

LOUD = 1e4  # what memory holds that nobody may read
MOST = 4  # requests at a time
STEPS = range(4, 25)  # of a history


def pick_one(options: list[int], g: Generator) -> int:
    """One of ``options``."""
    return options[int(torch.randint(0, len(options), (1,), generator=g))]


def normal(shape: tuple[int, ...], g: Generator, dtype: torch.dtype) -> Tensor:
    """Values of no special kind."""
    return (0.5 * torch.randn(shape, generator=g, dtype=torch.float64)).to(dtype)


@dataclass
class Memories:
    """Requests of `lightning_attention`: chunks of prompts, each with the state of its own."""

    case: Case
    states: dict[int, Tensor | None] = field(default_factory=dict)
    saved: dict[int, Tensor | None] = field(default_factory=dict)
    admitted: int = 0
    running: list[int] = field(default_factory=list)  # whose states the last call returned

    def rules(self) -> list[str]:
        """What can happen now."""
        if not self.states:
            return ["admit"]
        some = ["prefill", "prefill", "decode", "decode", "fork", "save", "evict", "nothing"]
        some += ["admit"] * (len(self.states) < MOST) + ["rewind"] * bool(self.saved)
        return some

    def step(self, rule: str, g: Generator) -> tuple[str, Call | None]:
        """Let ``rule`` happen."""
        if rule == "admit":
            self.states[self.admitted] = None
            self.admitted += 1
            return f"request {self.admitted - 1} admitted", None
        who = pick_one(sorted(self.states), g)
        if rule in ("prefill", "decode", "nothing"):
            tokens = {"prefill": pick_one([2, 5, 17, 33], g), "decode": 1, "nothing": 0}[rule]
            self.running = [who]
            return f"request {who} goes on by {tokens} tokens", self._call(who, tokens, g)
        if rule == "fork":
            self.states[self.admitted] = self.states[who]
            self.admitted += 1
        elif rule == "save":
            self.saved[who] = self.states[who]
        elif rule == "rewind":
            who = pick_one(sorted(self.saved), g)
            self.states[who] = self.saved.pop(who)
        else:
            del self.states[who]
        return f"request {who}: {rule}", None

    def took(self, results: Mapping[str, Tensor]) -> None:
        """The state of the request that went on."""
        self.states[self.running[0]] = results["final_state"]

    def _call(self, who: int, tokens: int, g: Generator) -> Call:
        a, dtype = self.case.axes, self.case.torch_dtype
        H, K, V = a["H"], a["K"], a["V"]
        tensors = {
            name: normal((1, tokens, H, D), g, dtype) for name, D in (("q", K), ("k", K), ("v", V))
        }
        tensors["log_decay"] = _decays(self.case)
        state = self.states[who]
        if state is not None:
            tensors["initial_state"] = state
        return Call(self.case.op, tensors, {"scale": K**-0.5})


@dataclass
class Pool:
    """Requests of `lightning_decode`: slots that are taken, given up, and taken by others."""

    case: Case
    pool: Tensor = field(init=False)
    slots: dict[int, int] = field(default_factory=dict)  # of requests
    saved: dict[int, Tensor] = field(default_factory=dict)
    admitted: int = 0

    def __post_init__(self) -> None:
        a, wide = self.case.axes, dtype_of("state", self.case.torch_dtype)
        self.pool = torch.full((MOST + 2, a["H"], a["K"], a["V"]), LOUD, dtype=wide)

    def rules(self) -> list[str]:
        """What can happen now."""
        if not self.slots:
            return ["admit"]
        some = ["decode"] * 5 + ["save", "evict"]
        some += ["admit", "fork"] * (len(self.slots) < MOST)
        return some + ["rewind"] * bool(self.saved.keys() & self.slots.keys())

    def step(self, rule: str, g: Generator) -> tuple[str, Call | None]:
        """Let ``rule`` happen."""
        if rule == "decode":
            return self._decode(g)
        if rule == "admit":
            self._take(0.0, g)
            return f"request {self.admitted - 1} admitted", None
        who = pick_one(sorted(self.slots), g)
        slot = self.slots[who]
        if rule == "fork":
            self._take(self.pool[slot].clone(), g)
        elif rule == "save":
            self.saved[who] = self.pool[slot].clone()
        elif rule == "rewind":
            who = pick_one(sorted(self.saved.keys() & self.slots.keys()), g)
            self.pool[self.slots[who]] = self.saved.pop(who)
        else:  # what it leaves behind is not erased, but must not be read
            self.pool[self.slots.pop(who)] = LOUD
        return f"request {who}: {rule}", None

    def took(self, results: Mapping[str, Tensor]) -> None:
        """The pool, as the call left it."""
        self.pool = results["state_pool"].clone()

    def _take(self, state: Tensor | float, g: Generator) -> None:
        free = sorted(set(range(len(self.pool))) - set(self.slots.values()))
        slot = pick_one(free, g)
        self.pool[slot] = state
        self.slots[self.admitted] = slot
        self.admitted += 1

    def _decode(self, g: Generator) -> tuple[str, Call]:
        """Some of the requests, in any order, with padding between them."""
        a, dtype = self.case.axes, self.case.torch_dtype
        who = sorted(self.slots)
        order = [who[int(n)] for n in torch.randperm(len(who), generator=g)]
        some = order[: pick_one(list(range(1, len(order) + 1)), g)]
        slots = [self.slots[r] for r in some]
        slots.insert(pick_one(list(range(len(slots) + 1)), g), -1)
        B, H, K, V = len(slots), a["H"], a["K"], a["V"]
        tensors = {name: normal((B, H, D), g, dtype) for name, D in (("q", K), ("k", K), ("v", V))}
        tensors |= {
            "log_decay": _decays(self.case), "state_pool": self.pool.clone(),
            "slots": torch.tensor(slots),
        }  # fmt: skip
        names = ", ".join(map(str, some))
        return f"requests {names} go on by a token", Call(self.case.op, tensors, {"scale": K**-0.5})


def _decays(case: Case) -> Tensor:
    """The same for all calls of a history."""
    made = values.decays("slopes", case.axes["H"], values.rng(case.seed, "decays"))
    return made.to(dtype_of("state", case.torch_dtype))
