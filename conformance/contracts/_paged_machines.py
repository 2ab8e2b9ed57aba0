"""Machines over a paged cache of latents: pages that are taken, shared, given up, taken by others.

Letters: B batch, H heads, L latent rank, R rotary dims, P pages, G rows of a page.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from lingspec.conformance.case import Call, Case
from lingspec.conformance.contracts._machines import LOUD, MOST, normal, pick_one

__all__ = ["PagedReads", "PagedWrites"]

ROWS = 40  # of a request, at most


@dataclass
class _Pages(ABC):
    """Which pages each request has, and how many rows are in them."""

    case: Case
    cache: Tensor = field(init=False)
    pages: dict[int, list[int]] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    saved: dict[int, int] = field(default_factory=dict)  # lengths to go back to
    admitted: int = 0

    def __post_init__(self) -> None:
        a = self.case.axes
        many = MOST * (-(-ROWS // a["G"]) + 1)
        room = torch.full((many, a["G"], a["L"] + a["R"]), LOUD, dtype=torch.float64)
        self.cache = room.to(self.case.torch_dtype)

    def rules(self) -> list[str]:
        """What can happen now."""
        if not self.pages:
            return ["admit"]
        some = ["run"] * 4 + ["grow"] * 3 + ["save", "evict"]
        some += ["admit", "fork"] * (len(self.pages) < MOST)
        return some + ["rewind"] * bool(self.saved.keys() & self.pages.keys())

    def step(self, rule: str, g: Generator) -> tuple[str, Call | None]:
        """Let ``rule`` happen."""
        if rule == "admit":
            self.pages[self.admitted], self.lengths[self.admitted] = [], 0
            self.admitted += 1
            return f"request {self.admitted - 1} admitted", None
        who = pick_one(sorted(self.pages), g)
        if rule == "grow":
            return self._grow(who, pick_one([1, 2, 7, 16], g), g)
        if rule == "fork":  # whole pages are shared, the last is copied
            self._fork(who, g)
        elif rule == "save":
            self.saved[who] = self.lengths[who]
        elif rule == "rewind":
            who = pick_one(sorted(self.saved.keys() & self.pages.keys()), g)
            self.lengths[who] = min(self.saved.pop(who), self.lengths[who])
        else:
            given_up = self.pages.pop(who)
            del self.lengths[who]
            mine = {p for pages in self.pages.values() for p in pages}
            self.cache[[p for p in given_up if p not in mine]] = LOUD
        return f"request {who}: {rule}", None

    def _free(self, g: Generator) -> int:
        taken = {p for pages in self.pages.values() for p in pages}
        return pick_one(sorted(set(range(len(self.cache))) - taken), g)

    def _fork(self, who: int, g: Generator) -> None:
        other, self.admitted = self.admitted, self.admitted + 1
        whole = self.lengths[who] // self.case.axes["G"]
        self.pages[other] = self.pages[who][:whole]
        self.lengths[other] = self.lengths[who]
        if self.lengths[who] > whole * self.case.axes["G"]:
            page = self._free(g)
            self.cache[page] = self.cache[self.pages[who][whole]]
            self.pages[other].append(page)

    def _slots(self, who: int, tokens: int, g: Generator) -> list[int]:
        """Rows for the next tokens of a request; pages that others look at are left to them."""
        G, slots = self.case.axes["G"], []
        for _ in range(min(tokens, ROWS - self.lengths[who])):
            place, row = divmod(self.lengths[who], G)
            if place == len(self.pages[who]):
                self.pages[who].append(self._free(g))
            page = self.pages[who][place]
            if sum(page in pages for pages in self.pages.values()) > 1:
                page = self._free(g)
                self.cache[page] = self.cache[self.pages[who][place]]
                self.pages[who][place] = page
            slots.append(page * G + row)
            self.lengths[who] += 1
        return slots

    @abstractmethod
    def _grow(self, who: int, tokens: int, g: Generator) -> tuple[str, Call | None]:
        """Tokens of one request."""


class PagedReads(_Pages):
    """Requests of `mla_decode`: the cache is written here, and read by the candidate."""

    def took(self, results: Mapping[str, Tensor]) -> None:
        """Nothing is left behind."""

    def _grow(self, who: int, tokens: int, g: Generator) -> tuple[str, Call | None]:
        slots, dtype = self._slots(who, tokens, g), self.cache.dtype
        self.cache.view(-1, self.cache.shape[2])[slots] = normal(
            (len(slots), self.cache.shape[2]), g, dtype
        )
        return f"request {who} grows by {len(slots)} rows", None

    def step(self, rule: str, g: Generator) -> tuple[str, Call | None]:
        """As of all pages; and all requests at once."""
        return self._run(g) if rule == "run" else super().step(rule, g)

    def _run(self, g: Generator) -> tuple[str, Call | None]:
        a, dtype = self.case.axes, self.case.torch_dtype
        order = [sorted(self.pages)[int(n)] for n in torch.randperm(len(self.pages), generator=g)]
        some = order[: pick_one(list(range(1, len(order) + 1)), g)]
        B, H, L, R, G = len(some), a["H"], a["L"], a["R"], a["G"]
        M = max(1, -(-ROWS // G))
        table = torch.randint(-9, 99, (B, M), generator=g)  # behind a length: anything
        for b, who in enumerate(some):
            used = -(-self.lengths[who] // G)
            table[b, :used] = torch.tensor(self.pages[who][:used], dtype=torch.int64)
        tensors = {
            "q_latent": normal((B, H, L), g, dtype), "q_rope": normal((B, H, R), g, dtype),
            "cache": self.cache.clone(), "pages": table,
            "lengths": torch.tensor([self.lengths[who] for who in some]),
        }  # fmt: skip
        said = f"requests {', '.join(map(str, some))} go on by a token"
        return said, Call(self.case.op, tensors, {"scale": (L + R) ** -0.5})


class PagedWrites(_Pages):
    """Requests of `latent_cache_write`: the candidate writes, and nothing else changes."""

    def rules(self) -> list[str]:
        """What can happen now; every run is a write."""
        return ["grow" if rule == "run" else rule for rule in super().rules()]

    def took(self, results: Mapping[str, Tensor]) -> None:
        """The cache, as the call left it."""
        self.cache = results["cache"].clone()

    def _grow(self, who: int, tokens: int, g: Generator) -> tuple[str, Call | None]:
        a, dtype = self.case.axes, self.case.torch_dtype
        slots = self._slots(who, tokens, g)
        slots.insert(pick_one(list(range(len(slots) + 1)), g), -1)
        T = len(slots)
        tensors = {
            "latent": normal((T, a["L"]), g, dtype), "rope": normal((T, a["R"]), g, dtype),
            "cache": self.cache.clone(), "slots": torch.tensor(slots),
        }  # fmt: skip
        return f"request {who} goes on by {T - 1} tokens", Call(self.case.op, tensors, {})
