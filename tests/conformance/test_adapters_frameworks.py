"""mlx-lm and transformers, op by op, through the real runner: a case or two of each."""

from collections.abc import Iterator

import pytest
from test_adapters import host_of, judged

from lingspec.conformance.runner.host import Host

ALL = ("f32", "bf16", "f16")
# Op, case, the dtypes that it is judged in. Both packages conform.
SHARED = [
    ("rms_norm", "authority.{}.B2.T5.D100.normal.dense.rank3.1", ALL),
    ("swiglu", "authority.{}.B2.T5.I33.normal.ajar.dense.rank3.1", ALL),
    ("rope_table", "authority.{}.B2.T5.R64.million.yarn.dense.rank2.1", ALL[:1]),
    ("rope_table", "authority.{}.B2.T5.R20.scattered.ratio.dense.rank2.3", ALL[:1]),
    ("moe_logits", "authority.{}.T9.D129.E16.normal.dense.1", ALL),
    ("moe_route", "authority.{}.T33.E64.G8.S4.C8.normal.raised.dense.1", ALL[:1]),
    ("moe_route", "authority.{}.T9.E24.G4.S3.C1.nan.ties.lowered.dense.2", ALL[:1]),
    ("moe_experts", "authority.{}.T9.D16.E8.I17.C3.normal.foreign.usual.dense.1", ALL[:1]),
    ("mla_layer", "handover.{}.B2.T9.L1.S5.cache.plain.normal.dense.cut4.1", ALL[:1]),
    ("mla_layer", "authority.{}.B2.T5.L3.S0.yarn.normal.dense.5", ALL[:1]),
    ("mla_layer", "authority.{}.B1.T1.L4.S16.cache.biased.heavy.dense.2", ALL[:1]),
    ("moe_block", "authority.{}.B2.T9.L2.S0.plain.normal.dense.1", ALL[:1]),
    ("moe_block", "authority.{}.B2.T9.L4.S0.alone.normal.dense.1", ALL[:1]),
]
MLX = [
    ("gated_group_rms_norm", "authority.{}.B2.T3.D96.G4.normal.ajar.dense.rank3.1", ALL),
    ("lightning_log_decay", "authority.{}.H6.L3.N20.O0.0", ALL[:1]),
    ("lightning_layer", "handover.{}.B2.T9.L2.S5.cache.training.normal.dense.cut4.1", ALL[:1]),
    ("decoder_layer", "authority.{}.B2.T9.L3.S0.plain.normal.dense.1", ALL[:1]),
    ("decoder_layer", "authority.{}.B1.T3.L0.S0.training.normal.dense.1", ALL[:1]),
    ("model", "handover.{}.B2.T5.S0.cache.alone.dense.cut2.1", ALL[:1]),
    ("model", "handover.{}.B2.T9.S5.cache.unnormed.dense.cut4.1", ALL[:1]),
]
TRANSFORMERS = [
    ("partial_rope", "authority.{}.B2.T5.H2.K16.R8.normal.apart.louder.dense.1", ALL),
    ("interleaved_rope", "authority.{}.B2.T5.H2.R20.normal.apart.unit.dense.1", ALL),
    ("qk_norm_rope", "authority.{}.B2.T5.H3.K16.R8.G2.normal.apart.unit.dense.1", ALL),
    ("fp8_quantize", "authority.{}.M17.N100.normal.rows.dense.1", ALL),
    ("fp8_quantize", "authority.{}.M128.N256.normal.blocks.dense.1", ALL),
    # All codes are 448, which is also what unwritten memory holds.
    ("fp8_quantize", "untouched.{}.M1.N8.constant.rows.dense.0", ALL[1:2]),
]
# What a package does otherwise, which docs/findings shows, and what it does not do.
MLX_OTHERWISE = [
    ("swiglu", "permutation.f16.B2.T2.I8.positive.wide.dense.rank3.371c", "FAIL"),
    ("rope_table", "authority.f32.B2.T5.R64.from1.half.dense.rank2.1", "FAIL"),
    ("rope_table", "authority.f32.B2.T5.R64.from1.factored.dense.rank2.1", "NOT SUPPORTED"),
    ("mla_layer", "authority.f32.B1.T5.L1.S0.training.normal.dense.1", "FAIL"),
    ("lightning_layer", "authority.f32.B1.T5.L0.S0.plain.normal.dense.1", "NOT SUPPORTED"),
    ("lightning_log_decay", "authority.f32.H6.L3.N20.O1.0", "NOT SUPPORTED"),
    ("moe_route", "authority.f32.T9.E64.G8.S4.C8.masked.raised.dense.1", "PASS"),
]
TRANSFORMERS_OTHERWISE = [
    ("rope_table", "authority.f32.B2.T5.R64.from1.half.dense.rank2.1", "PASS"),
    ("rope_table", "authority.f32.B2.T5.R64.from1.ends.dense.rank2.1", "PASS"),
    ("mla_layer", "authority.f32.B1.T5.L1.S0.training.normal.dense.1", "PASS"),
    ("moe_route", "authority.f32.T9.E64.G8.S4.C8.masked.raised.dense.1", "NOT SUPPORTED"),
    ("fp8_quantize", "authority.f32.M130.N128.normal.blocks.dense.1", "NOT SUPPORTED"),
    ("fp8_dequantize", "authority.f32.M128.N256.subnormal.even.blocks.dense.1", "PASS"),
    ("fp8_dequantize", "authority.f32.M130.N130.subnormal.even.blocks.dense.15eb", "FAIL"),
    ("fp8_dequantize", "authority.f32.M129.N128.subnormal.even.blocks.dense.1", "NOT SUPPORTED"),
]


@pytest.fixture(scope="module")
def mlx() -> Iterator[Host]:
    pytest.importorskip("mlx.core", exc_type=ImportError)
    yield from host_of("mlx_lm", "mlx")


@pytest.fixture(scope="module")
def transformers() -> Iterator[Host]:
    yield from host_of("transformers", "transformers")


@pytest.mark.parametrize(("op", "case", "dtypes"), SHARED + MLX)
def test_mlx_conforms(mlx: Host, op: str, case: str, dtypes: tuple[str, ...]) -> None:
    assert {dtype: judged(mlx, op, op, case, dtype) for dtype in dtypes} == dict.fromkeys(
        dtypes, "PASS"
    )


@pytest.mark.parametrize(("op", "case", "dtypes"), SHARED + TRANSFORMERS)
def test_transformers_conforms(
    transformers: Host, op: str, case: str, dtypes: tuple[str, ...]
) -> None:
    assert {dtype: judged(transformers, op, op, case, dtype) for dtype in dtypes} == dict.fromkeys(
        dtypes, "PASS"
    )


@pytest.mark.parametrize(("op", "case", "status"), MLX_OTHERWISE)
def test_what_mlx_does_otherwise_is_seen(mlx: Host, op: str, case: str, status: str) -> None:
    assert judged(mlx, op, op, case, case.split(".")[1]) == status


@pytest.mark.parametrize(("op", "case", "status"), TRANSFORMERS_OTHERWISE)
def test_what_transformers_does_otherwise_is_seen(
    transformers: Host, op: str, case: str, status: str
) -> None:
    assert judged(transformers, op, op, case, case.split(".")[1]) == status


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("way", ["batched", "grouped"])
def test_other_forms_of_the_experts_conform(transformers: Host, way: str, dtype: str) -> None:
    case = "authority.{}.T9.D16.E8.I17.C3.normal.spread.usual.dense.1"
    assert judged(transformers, f"moe_experts_{way}", "moe_experts", case, dtype) == "PASS"


@pytest.mark.parametrize(("way", "status"), [("batched", "FAIL"), ("grouped", "PASS")])
def test_experts_of_other_ranks_overflow_into_batched_ones(
    transformers: Host, way: str, status: str
) -> None:
    case = "invariance.{}.T1.D16.E4.I8.C2.zeros.foreign.usual.dense.0"
    assert judged(transformers, f"moe_experts_{way}", "moe_experts", case, "f16") == status
