"""Sizes of a model in use: heads, channels and tokens all at once, far beyond those of `wide.py`.

The authority of such a call costs too much, but not that of a few of its members: rows, heads,
sequences that do not see each other. Law `scale` asks for these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lingspec.conformance.wide import NORMAL, Size, Wide, groups, over

__all__ = ["LARGE", "OWN", "large"]

# Sizes of the model that go together, by op.
PAGES: tuple[Mapping[str, int], ...] = tuple(
    {"L": 512, "R": 64, "G": G} for G in (64, 1, 16, 32, 128)
)
ABSORBED = tuple({**page, "H": H} for page in PAGES for H in (16, 64, 128))
OWN: dict[str, tuple[Mapping[str, int], ...]] = {
    "rms_norm": ({"D": 8192}, {"D": 1536}, {"D": 512}, {"D": 128}),
    "add_rms_norm": ({"D": 8192},),
    "gated_group_rms_norm": ({"D": 8192, "G": 8}, {"D": 1024, "G": 1}),
    "rope_table": ({"R": 64},),
    "partial_rope": ({"K": 128, "R": 64},),
    "interleaved_rope": ({"R": 64},),
    "qk_norm_rope": ({"K": 128, "R": 64},),
    "lightning_attention": ({"K": 128, "V": 128},),
    "lightning_decode": ({"K": 128, "V": 128},),
    "mla_attention": ({"K": 192, "V": 128}, {"K": 128, "V": 128}, {"K": 576, "V": 512}),
    "mla_decode": (*PAGES, *ABSORBED),
    "merge_attention": ({"V": 512}, {"V": 128}),
    "latent_cache_write": PAGES,
    "moe_logits": ({"D": 8192, "E": 256},),
    "moe_route": ({"E": 256, "G": 8, "S": 4, "C": 8}, {"E": 64, "G": 8, "S": 4, "C": 8}),
    "moe_experts": (
        {"D": 64, "I": 128, "E": 256, "C": 8},
        {"D": 128, "I": 128, "E": 8, "C": 8},
        {"D": 256, "I": 128, "E": 4, "C": 2},
    ),
    "swiglu": ({"I": 2048}, {"I": 1024}),
}


ROWS, FEW = 1 << 17, 24  # programs of a kernel that takes a row each: compiled, interpreted
ELEMENTS, LESS = 1 << 22, 1 << 16  # of one tensor
SUMS = 1 << 27, 1 << 20  # products that are added up


def _rows(channels: str, most: int) -> Wide:
    return Wide(
        {"B": (1, 600, 1), "T": (128, 70000, 1), channels: (1, most, 1)},
        {f"BT{channels}": (ELEMENTS, LESS), "BT": (ROWS, FEW)},
    )


ROTATED: dict[str, tuple[Size, Size, Size]] = {
    "B": (1, 100, 1), "T": (100, 30000, 1), "H": (1, 130, 1), "R": (2, 256, 2),
}  # fmt: skip

LARGE: dict[str, Wide] = {
    "rms_norm": _rows("D", 20000),
    "add_rms_norm": _rows("D", 20000),
    "swiglu": _rows("I", 20000),
    "gated_group_rms_norm": Wide(
        {"B": (1, 100, 1), "T": (128, 20000, 1), "G": (1, 64, 1), "D": groups(9000, 1)},
        {"BTD": (ELEMENTS, LESS), "BTG": (ROWS, LESS), "BT": (ROWS, FEW)},
    ),
    "rope_table": Wide(
        {"B": (1, 600, 1), "T": (128, 70000, 1), "R": (2, 512, 2)},
        {"BTR": (ELEMENTS, LESS), "BT": (ROWS, FEW)},
    ),
    "partial_rope": Wide(
        {**ROTATED, "K": over("R", 320)},
        {"BTHK": (ELEMENTS, LESS), "BTHR": (ELEMENTS, LESS), "BTH": (ROWS, FEW)},
    ),
    "interleaved_rope": Wide(ROTATED, {"BTHR": (ELEMENTS, LESS), "BTH": (ROWS, FEW)}),
    "qk_norm_rope": Wide(
        {**ROTATED, "G": (1, 80, 1), "K": over("R", 320)},
        {"BTHK": (ELEMENTS, LESS), "BTHR": (ELEMENTS, LESS), "BTGK": (ELEMENTS, LESS),
         "BTGR": (ELEMENTS, LESS), "BTH": (ROWS, FEW)},
    ),
    "lightning_attention": Wide(
        {"B": (1, 16, 1), "T": (64, 1300, 1), "H": (1, 64, 1), "K": (8, 128, 8), "V": (8, 128, 8)},
        {"BTHKV": SUMS, "BHKV": (1 << 20, 1 << 14), "BTHK": (ELEMENTS, LESS),
         "BTHV": (ELEMENTS, LESS)},
    ),
    "lightning_decode": Wide(
        {"B": (1, 1000, 1), "H": (1, 80, 1), "K": (8, 128, 8), "V": (8, 128, 8),
         "P": over("B", 40000)},
        {"BHKV": (ELEMENTS, LESS), "PHKV": (ELEMENTS, LESS), "BH": (ROWS, FEW)},
    ),
    "mla_attention": Wide(
        {"B": (1, 12, 1), "T": (16, 2500, 1), "H": (1, 80, 1), "K": (8, 200, 8), "V": (8, 200, 8),
         "S": over("T", 6000)},
        {"BTSHK": SUMS, "BTSHV": SUMS, "BSHK": (ELEMENTS, LESS), "BSHV": (ELEMENTS, LESS),
         "BTHK": (ELEMENTS, LESS), "BTTH": (1 << 20, 1 << 12), "BTH": (ROWS, FEW)}, NORMAL,
    ),
    "mla_decode": Wide(
        {"B": (1, 200, 1), "H": (1, 128, 1), "L": (8, 512, 8), "R": (8, 64, 8), "G": (1, 300, 1),
         "M": (4, 6000, 1), "P": (3, lambda a: a["B"] * a["M"] + 2, 1)},
        {"BHMGL": (1 << 25, 1 << 18), "BHL": (ELEMENTS, LESS), "PGL": (ELEMENTS, LESS),
         "BMG": (ROWS, LESS), "BH": (ROWS, FEW)}, NORMAL,
    ),
    "merge_attention": Wide(
        {"B": (1, 100, 1), "T": (64, 70000, 1), "H": (1, 130, 1), "V": (8, 1100, 8)},
        {"BTHV": (ELEMENTS, LESS), "BTH": (ROWS, FEW)},
    ),
    "moe_logits": Wide(
        {"T": (64, 20000, 1), "D": (1, 9000, 1), "E": (2, 600, 1)},
        {"TD": (ELEMENTS, LESS), "DE": (ELEMENTS, LESS), "TE": (ELEMENTS, LESS),
         "TDE": (1 << 29, 1 << 22)},
    ),
    "moe_route": Wide(
        {"T": (64, 20000, 1), "G": (1, 32, 1), "E": groups(600, 2), "S": (1, lambda a: a["G"], 1),
         "C": (1, lambda a: min(24, a["S"] * (a["E"] // a["G"])), 1)},
        {"TE": (ELEMENTS, LESS), "TG": (ELEMENTS, LESS), "T": (ROWS, 48)},
    ),
    "moe_experts": Wide(
        {"T": (16, 4000, 1), "D": (1, 1100, 1), "I": (1, 1100, 1), "E": (2, 300, 1),
         "C": (1, lambda a: min(16, a["E"]), 1)},
        {"DIE": (1 << 21, 1 << 14), "TCDI": (1 << 28, 1 << 20), "TD": (ELEMENTS, LESS),
         "T": (ROWS, FEW)},
    ),
}  # fmt: skip


# How many heads the model has, by op.
HEADS: Mapping[str, Mapping[str, int]] = {
    "partial_rope": {"H": 64}, "interleaved_rope": {"H": 64}, "qk_norm_rope": {"H": 64, "G": 64},
    "lightning_attention": {"H": 64}, "lightning_decode": {"H": 64}, "mla_attention": {"H": 64},
    "merge_attention": {"H": 64},
}  # fmt: skip


def large(op: str) -> tuple[Wide, ...]:
    """Ranges of every size, and of those that are left where some are the model's."""
    ranges = LARGE.get(op)
    if ranges is None:
        return ()
    fixed = OWN.get(op, ())
    fixed = (*({**own, **HEADS[op]} for own in fixed[:1] if op in HEADS), *fixed)
    ranges = replace(ranges, lean=3.0)
    own = [replace(ranges, own=sizes) for sizes in fixed] or [ranges]
    return tuple(x for n in range(0, len(own), 2) for x in (*own[n : n + 2], ranges))
