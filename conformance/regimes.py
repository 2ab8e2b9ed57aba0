"""Sizes that belong together: those of the model, and one size large while the others are small.

Most cases are small, so that many can be asked. What is wrong from the 129th row on, for more than
16 heads or for rows of 8192 channels shows in few of them; some cases of every op are therefore
moved into one of its regimes, which are chosen so that the authority stays cheap. In half of these
large sizes are a little larger, for whoever is right on round ones alone. As many cases have sizes
from wide ranges (`wide.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lingspec.conformance.case import Case
from lingspec.conformance.contract import Contract, Pick
from lingspec.conformance.large import large
from lingspec.conformance.wide import WIDE, Wide

__all__ = [
    "LAWS", "REGIMES", "Regime", "has_members", "has_past", "moved", "of", "often",
]  # fmt: skip

# Laws whose cases need no sizes of their own.
LAWS = (
    "authority", "causality", "handover", "packed", "permutation", "homogeneity", "determinism",
    "untouched", "strides", "sharding", "shapes",
)  # fmt: skip
OFTEN = {"authority": 2, "scale": 1}  # one case in so many; of other laws, one in `SELDOM`
SELDOM = 3
MORE = (0, 0, 0, 1, 3, 5)  # so many rows, or eights of channels, in addition
LARGE = 64
ROWS, CHANNELS = "TSM", "DNIKVLE"


@dataclass(frozen=True)
class Regime:
    """Sizes of some axes, or lengths of packed sequences; and what they go with."""

    axes: Mapping[str, int]
    lengths: tuple[int, ...] | None = None
    traits: Mapping[str, str] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()  # that a case must have
    # Not where kernels are interpreted: too many programs, one after another.
    compiled: bool = False


def _sizes(
    *, compiled: bool = False, traits: Mapping[str, str] | None = None, **axes: int
) -> Regime:
    return Regime(axes, traits=traits or {}, compiled=compiled)


def _packed(*lengths: int, **axes: int) -> Regime:
    return Regime(axes, lengths)


# Groups, the pages of a sequence and the layers of a model go with other sizes; and no memory of a
# head is wider than the model's, which fills what a program can hold.
BOUND = {
    "gated_group_rms_norm": "D", "moe_route": "E", "mla_decode": "LM", "lightning_log_decay": "LN",
    "lightning_attention": "KV", "lightning_decode": "KV",
}  # fmt: skip
NORMAL = {"values": "normal"}  # of large scores no limit says much
WIDE_ROWS = (_sizes(B=1, T=2, D=8192), _sizes(B=1, T=3, D=1536), _sizes(B=2, T=150, D=8))
MANY_ROWS = _sizes(B=1, T=1025, D=8, compiled=True)
FULL = {**NORMAL, "fill": "full"}
# Dimensions before heads: as many of those as the model has, then tokens.
ROTATED = (
    _sizes(B=1, T=2, H=64, K=128, R=64), _sizes(B=1, T=3, H=17, K=24, R=16),
    _sizes(B=2, T=140, H=1, K=8, R=4), _sizes(B=1, T=600, H=1, K=8, R=4, compiled=True),
)  # fmt: skip
COMPOSITE = (_sizes(B=1, T=140), _sizes(B=2, T=70), _sizes(B=9, T=2))
CACHED = (
    *COMPOSITE,
    *(Regime({"B": B, "T": T, "S": S}, flags=frozenset({"cache"}))
      for B, T, S in ((1, 3, 140), (2, 70, 70))),
)  # fmt: skip

REGIMES: dict[str, tuple[Regime, ...]] = {
    "rms_norm": (*WIDE_ROWS, MANY_ROWS),
    "add_rms_norm": (*WIDE_ROWS, MANY_ROWS),
    "gated_group_rms_norm": (
        _sizes(B=1, T=2, D=8192, G=8), _sizes(B=1, T=2, D=1024, G=1), _sizes(B=1, T=2, D=1536, G=2),
        _sizes(B=1, T=3, D=120, G=24), _sizes(B=1, T=3, D=49, G=7), _sizes(B=2, T=150, D=16, G=2),
        _sizes(B=1, T=1025, D=8, G=2, compiled=True),
    ),
    "rope_table": (_sizes(B=1, T=1025, R=8), _sizes(B=9, T=3, R=64), _sizes(B=1, T=2, R=256)),
    "partial_rope": ROTATED,
    "interleaved_rope": tuple(
        Regime({a: n for a, n in r.axes.items() if a != "K"}, compiled=r.compiled) for r in ROTATED
    ),
    "qk_norm_rope": (
        *(Regime({**r.axes, "G": r.axes["H"]}, compiled=r.compiled) for r in ROTATED),
        _sizes(B=1, T=2, H=64, G=8, K=128, R=64), _sizes(B=1, T=3, H=3, G=20, K=24, R=8),
        _sizes(B=1, T=3, H=2, G=2, K=256, R=72),
    ),
    "lightning_log_decay": (_sizes(H=64, L=79, N=80), _sizes(H=512, L=3, N=20)),
    "lightning_attention": (
        _sizes(B=1, T=140, H=12, K=16, V=16, compiled=True), _sizes(B=1, T=70, H=9, K=16, V=16),
        _sizes(B=1, T=400, H=1, K=96, V=16, compiled=True), _sizes(B=1, T=200, H=1, K=72, V=16),
        _sizes(B=6, T=20, H=2, K=24, V=16), _sizes(B=2, T=2, H=64, K=40, V=24),
        _sizes(B=1, T=70, H=1, K=128, V=96),
        _packed(150, H=2, K=16, V=24), _packed(131, 3, 0, 70, H=2, K=16, V=16),
        _packed(*(5, 9, 4) * 4, H=2, K=24, V=16), _packed(*(2,) * 40, H=1, K=8, V=8),
    ),
    "lightning_decode": (
        _sizes(B=2, H=64, K=40, V=48, P=3), _sizes(B=3, H=9, K=64, V=64, P=3),
        _sizes(B=12, H=2, K=16, V=16, P=700), _sizes(B=130, H=1, K=104, V=16, P=131, compiled=True),
        _sizes(B=300, H=1, K=8, V=16, P=301, compiled=True),
    ),
    "mla_attention": (
        _sizes(B=1, T=3, S=700, H=1, K=24, V=16, traits=NORMAL),
        _sizes(B=1, T=2, S=40, H=64, K=24, V=16, traits=NORMAL),
        _sizes(B=1, T=70, S=70, H=9, K=16, V=24, traits=NORMAL),
        _sizes(B=9, T=4, S=33, H=2, K=16, V=16, traits=NORMAL),
        _sizes(B=1, T=3, S=130, H=1, K=192, V=128, traits=NORMAL),
        _sizes(B=1, T=300, S=300, H=1, K=16, V=16, traits=NORMAL, compiled=True),
        Regime({"H": 2, "K": 24, "V": 16}, (140, 3, 70), NORMAL),
        Regime({"H": 1, "K": 16, "V": 16}, (4, 7, 1) * 6, NORMAL),
    ),
    "mla_decode": (
        _sizes(B=1, H=64, L=512, R=64, P=9, G=64, M=5, traits=FULL, compiled=True),
        _sizes(B=1, H=20, L=512, R=64, P=4, G=16, M=2, traits=NORMAL),
        _sizes(B=2, H=3, L=192, R=24, P=9, G=32, M=3, traits=NORMAL),
        _sizes(B=1, H=2, L=320, R=64, P=9, G=24, M=3, traits=NORMAL),
        _sizes(B=20, H=2, L=24, R=8, P=50, G=8, M=2, traits=NORMAL),
        _sizes(B=2, H=1, L=16, R=8, P=90, G=32, M=40, traits=NORMAL, compiled=True),
        _sizes(B=2, H=2, L=24, R=8, P=5, G=128, M=2, traits=NORMAL),
    ),
    "merge_attention": (
        _sizes(B=1, T=2, H=64, V=512), _sizes(B=1, T=3, H=3, V=192), _sizes(B=1, T=3, H=2, V=328),
        _sizes(B=1, T=20, H=20, V=16), _sizes(B=1, T=2200, H=4, V=8, compiled=True),
    ),
    "latent_cache_write": (
        _sizes(T=3, L=512, R=64, P=3, G=64), _sizes(T=4, L=200, R=72, P=3, G=32),
        _sizes(T=300, L=16, R=8, P=24, G=16), _sizes(T=2, L=16, R=8, P=3, G=256),
        _sizes(T=1100, L=8, R=8, P=1200, G=1, compiled=True),
    ),
    "moe_logits": (
        _sizes(T=3, D=1024, E=40), _sizes(T=140, D=24, E=17),
        _sizes(T=2, D=8192, E=256, compiled=True),
        _sizes(T=300, D=16, E=16, compiled=True),
    ),
    "moe_route": (
        _sizes(T=5, E=256, G=8, S=4, C=8), _sizes(T=4, E=256, G=4, S=2, C=8),
        _sizes(T=9, E=15, G=5, S=3, C=4), _sizes(T=9, E=21, G=3, S=2, C=4),
        _sizes(T=7, E=27, G=9, S=5, C=6),
        _sizes(T=150, E=16, G=4, S=2, C=3), _sizes(T=5, E=48, G=16, S=12, C=12),
        _sizes(T=1025, E=8, G=2, S=1, C=2, compiled=True),
    ),
    "moe_experts": (
        _sizes(T=3, D=8, E=256, I=8, C=8), _sizes(T=3, D=136, E=4, I=24, C=2),
        _sizes(T=5, D=24, E=3, I=72, C=2),
        _sizes(T=200, D=16, E=8, I=40, C=2, compiled=True),
        _sizes(T=6, D=24, E=256, I=40, C=8, compiled=True),
        _sizes(T=40, D=200, E=6, I=136, C=3, compiled=True),
    ),
    "swiglu": (
        _sizes(B=1, T=2, I=2048), _sizes(B=1, T=2, I=5120), _sizes(B=2, T=150, I=8),
        _sizes(B=1, T=1025, I=8, compiled=True),
    ),
    "fp8_quantize": (
        _sizes(M=200, N=20), _sizes(M=3, N=2048), _sizes(M=45, N=390),
        _sizes(M=520, N=130, compiled=True),
        _sizes(M=130, N=1030, compiled=True), _sizes(M=2, N=8192, compiled=True),
    ),
    "fp8_dequantize": (
        _sizes(M=200, N=20), _sizes(M=3, N=2048), _sizes(M=45, N=390),
        _sizes(M=520, N=130, compiled=True),
        _sizes(M=130, N=1030, compiled=True), _sizes(M=2, N=8192, compiled=True),
    ),
    "lightning_layer": COMPOSITE,
    "moe_block": (*COMPOSITE, _sizes(B=2, T=150)),
    "mla_layer": CACHED,
    "decoder_layer": COMPOSITE,
    "mtp_layer": CACHED,
    "model": (_sizes(B=9, T=2), _sizes(B=1, T=70)),
}  # fmt: skip


def often(law: str) -> int:
    """One case of a law in so many is in a regime."""
    return OFTEN.get(law, SELDOM)


def of(contract: Contract, case: Case, cost: str) -> tuple[Regime | Wide, ...]:
    """The regimes that a case can be moved into, and wide ranges as often."""
    if case.law == "scale":
        return large(case.op)
    if case.law not in LAWS or _own(case):
        return ()
    fixed = tuple(
        r for r in REGIMES[case.op]
        if (r.lengths is None) == (case.lengths is None) and r.flags <= case.flags
        and not (r.compiled and cost == "interpreted")
        and has_members(contract, case.with_(axes={**case.axes, **r.axes}))
    )  # fmt: skip
    # as often the sizes of no list
    return tuple(x for r in fixed for x in (WIDE[case.op], r)) or (WIDE[case.op],)


def moved(contract: Contract, case: Case, to: Regime | Wide, cost: str, pick: Pick) -> Case:
    """The case, in a regime, or as it is where its law would find nothing to compare there."""
    if isinstance(to, Wide):
        made = to.moved(case, cost, pick)
        return made if has_members(contract, made) and has_past(made) else case
    more = pick(MORE)
    axes = {a: n + more * _step(case.op, a, n) for a, n in to.axes.items()}
    return case.with_(
        axes={**case.axes, **axes}, lengths=to.lengths, traits={**case.traits, **to.traits}
    )


def _step(op: str, axis: str, n: int) -> int:
    """What may be added to a size, 0 where others depend on it."""
    if n < LARGE or axis in BOUND.get(op, ""):
        return 0
    return 1 if axis in ROWS else 8 if axis in CHANNELS else 0


def has_members(contract: Contract, case: Case) -> bool:
    """Whether a law that compares members of an axis finds two there."""
    asked = {"permutation": contract.algebra.independent, "sharding": contract.algebra.shardable}
    if case.law not in asked:
        return True
    return any(case.axes.get(a, 0) > 1 for a in asked[case.law])


def has_past(case: Case) -> bool:
    """Whether a law that cuts tokens finds two."""
    tokens = sum(case.lengths) if case.lengths is not None else case.axes.get("T", 2)
    return tokens > 1 or case.law not in ("causality", "handover")


def _own(case: Case) -> bool:
    """Whether the sizes of a case are its point: nothing at all, one row, distant members."""
    empty = 0 in [case.axes[a] for a in "BTM" if a in case.axes]
    apart = case.traits.get("rank") == "rank1" or case.traits.get("layout") == "far"
    return empty or apart
