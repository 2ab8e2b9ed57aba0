"""Sizes from wide ranges: any may be large, and some of them together, as far as work allows.

Whoever writes a wrong kernel need not know which sizes the other cases have: what goes wrong from a
number of rows, heads or channels on shows wherever that number lies. What goes wrong where tiles
are whole shows as well: in some cases all sizes that can be are multiples of a tile, in some all
are powers of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lingspec.conformance.case import Case
from lingspec.conformance.contract import Pick

__all__ = ["NORMAL", "WIDE", "Size", "Wide", "groups", "over"]

Size = int | Callable[[Mapping[str, int]], int]
PLACES = 1 << 10  # steps between the smallest size and the largest, by equal factors
SEQUENCES = 80  # packed in one call
POWERS = 0  # in the place of a grain: sizes are powers of two
GRAINS = (1, 1, 1, 1, POWERS, 16, 64, 128, 256, 512)  # what sizes are multiples of, where they can


@dataclass(frozen=True)
class Wide:
    """Ranges of axes, and how large products of them may be."""

    # From, to, and what it is a multiple of; a function is given the axes that have none.
    axes: Mapping[str, tuple[Size, Size, Size]]
    # Products of axes: the most where kernels are compiled, and where they are interpreted.
    work: Mapping[str, tuple[int, int]]
    # Families of values that wide sizes leave no power, and what stands for them.
    instead: Mapping[str, str] = field(default_factory=dict)
    # Sizes of a model, in the place of drawn ones.
    own: Mapping[str, int] = field(default_factory=dict)
    lean: float = 1.0  # above 1: rather large than small

    def moved(self, case: Case, cost: str, pick: Pick) -> Case:
        """The case, with sizes of its own."""
        limits = {w: most[cost == "interpreted"] for w, most in self.work.items()}
        kind = case.traits.get("values", "")
        traits = {**case.traits, "values": self.instead[kind]} if kind in self.instead else None
        case = case.with_(traits=traits) if traits else case
        if case.lengths is None:
            axes = self._drawn(pick, limits, {})
            return case.with_(axes={**case.axes, **axes})
        axes = self._drawn(pick, limits, {"B": 1})
        lengths = _parted(pick, axes.pop("T"))
        axes = {a: n for a, n in axes.items() if a in case.axes}
        return case.with_(axes={**case.axes, **axes}, lengths=lengths)

    def _drawn(
        self, pick: Pick, limits: Mapping[str, int], known: dict[str, int]
    ) -> dict[str, int]:
        free = [a for a, sizes in self.axes.items() if all(isinstance(s, int) for s in sizes)]
        first = pick(range(len(free)))  # it may take all the work there is
        grain = pick(GRAINS)
        order = [*free[first:], *free[:first], *(a for a in self.axes if a not in free)]
        made = {**self.own, **known}
        for axis in order:
            if axis in made:
                continue
            low, high, step = (_number(s, made) for s in self.axes[axis])
            at_most = [self._room(axis, w, most, made) for w, most in limits.items() if axis in w]
            most = min([high, *at_most])
            low = max(1, min(low, most)) if axis == "T" else low  # of tokens any number will do
            made[axis] = _size(pick, low, max(low, most), step, grain, self.lean)
        return made

    def _room(self, axis: str, product: str, most: int, made: Mapping[str, int]) -> int:
        """How large an axis may be where others of a product are known, or as small as may be."""
        others = math.prod(made.get(a, self._least(a)) for a in product if a != axis)
        return int((most / others) ** (1 / product.count(axis)))

    def _least(self, axis: str) -> int:
        low = self.axes[axis][0]
        return low if isinstance(low, int) else 1

    def told(self) -> str:
        """What `lingspec ops OP` says."""
        ranges = [
            f"{a} {low} to {high}" if isinstance(low, int) and isinstance(high, int) else a
            for a, (low, high, _) in self.axes.items()
        ]
        most = [f"{' '.join(w)} up to {native}" for w, (native, _) in self.work.items()]
        return f"any of {', '.join(ranges)}; products {', '.join(most)}"


def _number(size: Size, made: Mapping[str, int]) -> int:
    return size if isinstance(size, int) else size(made)


def _size(pick: Pick, low: int, high: int, step: int, grain: int = 1, lean: float = 1.0) -> int:
    """From ``low`` to ``high``, every factor as likely as any; of whole grains, if it can be."""
    share = (pick(range(PLACES)) / (PLACES - 1)) ** (1 / lean)
    n = round(max(low, 1) * math.pow(high / max(low, 1), share))
    whole = math.lcm(step, grain or 1 << max(n, 1).bit_length() - 1)
    whole = whole if low <= n // whole * whole else step
    return max(low, n // whole * whole)


def _parted(pick: Pick, T: int) -> tuple[int, ...]:
    """T tokens in sequences of which some are long."""
    count = _size(pick, 1, min(SEQUENCES, T), 1)
    ends = sorted(pick(range(T + 1)) for _ in range(count - 1))
    return tuple(b - a for a, b in zip([0, *ends], [*ends, T], strict=True))


def _rows(channels: str, most: int) -> Wide:
    return Wide(
        {"B": (1, 70, 1), "T": (1, 4200, 1), channels: (1, most, 1)},
        {f"BT{channels}": (1 << 17, 1 << 12), "BT": (1 << 13, 24)},
    )


NORMAL = dict.fromkeys(("large", "huge", "shifted"), "normal")  # of large scores limits say little
ROTATED: dict[str, tuple[Size, Size, Size]] = {
    "B": (1, 20, 1), "T": (1, 2100, 1), "H": (1, 130, 1), "R": (2, 256, 2),
}  # fmt: skip


def over(letter: str, most: int, step: int = 1) -> tuple[Size, Size, Size]:
    """As large as another axis, or larger."""
    return lambda a: -(-a[letter] // step) * step, lambda a: max(most, a[letter]), step


def groups(most: int, each: int, letter: str = "G") -> tuple[Size, Size, Size]:
    """A multiple of a number of groups, each of ``each`` members or more."""
    return lambda a: each * a[letter], lambda a: max(most, each * a[letter]), lambda a: a[letter]


COMPOSITE = Wide(
    {"B": (1, 20, 1), "T": (1, 300, 1)}, {"BT": (256, 24)},
)  # fmt: skip
CACHED = Wide(
    {"B": (1, 12, 1), "T": (1, 260, 1)}, {"BT": (256, 24), "BTT": (1 << 15, 1 << 9)},
)  # fmt: skip

WIDE: dict[str, Wide] = {
    "rms_norm": _rows("D", 20000),
    "add_rms_norm": _rows("D", 20000),
    "swiglu": _rows("I", 20000),
    "gated_group_rms_norm": Wide(
        {"B": (1, 20, 1), "T": (1, 2100, 1), "G": (1, 64, 1), "D": groups(9000, 1)},
        {"BTD": (1 << 17, 1 << 12), "BTG": (1 << 16, 1 << 11), "BT": (1 << 12, 24)},
    ),
    "rope_table": Wide(
        {"B": (1, 70, 1), "T": (1, 4200, 1), "R": (2, 512, 2)}, {"BTR": (1 << 16, 1 << 12)}
    ),
    "partial_rope": Wide(
        {**ROTATED, "K": over("R", 320)},
        {"BTHK": (1 << 16, 1 << 13), "BTHR": (1 << 16, 1 << 13), "BTH": (1 << 13, 24)},
    ),
    "interleaved_rope": Wide(ROTATED, {"BTHR": (1 << 16, 1 << 13), "BTH": (1 << 13, 24)}),
    "qk_norm_rope": Wide(
        {**ROTATED, "G": (1, 80, 1), "K": over("R", 320)},
        {"BTHK": (1 << 15, 1 << 13), "BTHR": (1 << 15, 1 << 13), "BTGK": (1 << 15, 1 << 13),
         "BTGR": (1 << 15, 1 << 13), "BTH": (1 << 12, 24)},
    ),
    "lightning_log_decay": Wide(
        {"H": (1, 600, 1), "N": (2, 300, 1), "L": (0, lambda a: a["N"] - 1, 1)}, {}
    ),
    "lightning_attention": Wide(
        {"B": (1, 16, 1), "T": (1, 1100, 1), "H": (1, 64, 1), "K": (8, 128, 8), "V": (8, 128, 8)},
        {"BTHKV": (1 << 19, 1 << 15), "BHKV": (1 << 16, 1 << 13), "BTHK": (1 << 15, 1 << 13),
         "BTHV": (1 << 15, 1 << 13), "BTH": (1 << 12, 1 << 8)},
    ),
    "lightning_decode": Wide(
        {"B": (1, 400, 1), "H": (1, 80, 1), "K": (8, 128, 8), "V": (8, 128, 8),
         "P": over("B", 3000)},
        {"BHKV": (1 << 17, 1 << 14), "PHKV": (1 << 18, 1 << 15), "BH": (1 << 12, 48)},
    ),
    "mla_attention": Wide(
        {"B": (1, 12, 1), "T": (1, 500, 1), "H": (1, 80, 1), "K": (8, 200, 8), "V": (8, 200, 8),
         "S": over("T", 1500)},
        {"BTSH": (1 << 15, 1 << 11), "BSHK": (1 << 16, 1 << 13), "BSHV": (1 << 16, 1 << 13),
         "BTHK": (1 << 16, 1 << 13), "BTHV": (1 << 16, 1 << 13), "BTTH": (1 << 15, 1 << 11),
         "BH": (1 << 10, 12)}, NORMAL,
    ),
    "mla_decode": Wide(
        {"B": (1, 80, 1), "H": (1, 128, 1), "L": (8, 512, 8), "R": (8, 64, 8), "G": (1, 300, 1),
         "M": (1, 100, 1), "P": (3, lambda a: a["B"] * a["M"] + 2, 1)},
        {"BHMG": (1 << 14, 1 << 10), "BMGL": (1 << 16, 1 << 13), "BHL": (1 << 16, 1 << 13),
         "PGL": (1 << 17, 1 << 14), "BH": (1 << 11, 24)}, NORMAL,
    ),
    "merge_attention": Wide(
        {"B": (1, 20, 1), "T": (1, 2500, 1), "H": (1, 130, 1), "V": (8, 1100, 8)},
        {"BTHV": (1 << 17, 1 << 13), "BTH": (1 << 14, 24)},
    ),
    "latent_cache_write": Wide(
        {"T": (1, 1500, 1), "L": (8, 1100, 8), "R": (8, 136, 8), "G": (1, 300, 1),
         "P": (lambda a: -(-a["T"] // a["G"]), lambda a: 3 + 2 * a["T"] // a["G"], 1)},
        {"TL": (1 << 16, 1 << 13), "TR": (1 << 16, 1 << 13), "T": (1500, 48)},
    ),
    "moe_logits": Wide(
        {"T": (1, 2100, 1), "D": (1, 9000, 1), "E": (2, 600, 1)},
        {"TD": (1 << 16, 1 << 13), "DE": (1 << 18, 1 << 13), "TE": (1 << 16, 1 << 12),
         "TDE": (1 << 22, 1 << 16)},
    ),
    "moe_route": Wide(
        {"T": (1, 2100, 1), "G": (1, 32, 1), "E": groups(600, 2), "S": (1, lambda a: a["G"], 1),
         "C": (1, lambda a: min(24, a["S"] * (a["E"] // a["G"])), 1)},
        {"TE": (1 << 15, 1 << 12), "TG": (1 << 14, 1 << 11), "T": (2100, 48)},
    ),
    "moe_experts": Wide(
        {"T": (1, 400, 1), "D": (1, 500, 1), "I": (1, 500, 1), "E": (2, 300, 1),
         "C": (1, lambda a: min(16, a["E"]), 1)},
        {"DIE": (1 << 17, 1 << 14), "TDI": (1 << 19, 1 << 15), "TCI": (1 << 16, 1 << 12),
         "TCD": (1 << 16, 1 << 12), "T": (400, 24)},
    ),
    "fp8_quantize": Wide({"M": (1, 3000, 1), "N": (1, 12000, 1)}, {"MN": (1 << 17, 1 << 12)}),
    "fp8_dequantize": Wide({"M": (1, 3000, 1), "N": (1, 12000, 1)}, {"MN": (1 << 17, 1 << 12)}),
    "lightning_layer": COMPOSITE,
    "moe_block": COMPOSITE,
    "mla_layer": CACHED,
    "decoder_layer": CACHED,
    "mtp_layer": CACHED,
    "model": Wide({"B": (1, 20, 1), "T": (1, 80, 1)}, {"BT": (80, 12), "BTT": (1 << 12, 1 << 7)}),
}  # fmt: skip
