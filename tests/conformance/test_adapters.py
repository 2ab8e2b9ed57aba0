"""The adapters of other packages, through the real runner, on a handful of cases each."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lingspec.conformance.certify import opened
from lingspec.conformance.cli import main
from lingspec.conformance.contracts import contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.report import Options
from lingspec.conformance.run import parts
from lingspec.conformance.runner.host import Host

ATTENTION, DECODE, MLA = "lightning_attention", "lightning_decode", "mla_attention"

# A partial chunk, a cut, packed sequences, gradients; what only some of them can do.
PARTIAL = "authority.{}.B1.T70.H2.K16.V24.state.slopes.normal.dense.1"
CUT = "handover.{}.B1.T66.H2.K16.V16.state.mild.normal.fused.cut65.2"
PACKED = "packed.{}.H1.K16.V16.n3-0-17.slopes.normal.dense.3"
GRADIENTS = "gradients.{}.B1.T20.H2.K16.V16.state.slopes.normal.dense.4"
STRONG = "authority.{}.B1.T5.H1.K16.V16.strong.normal.dense.5"
STEP = "authority.{}.B1.T1.H2.K16.V16.state.slopes.normal.dense.6"
POOL = "authority.{}.B3.H2.K16.V24.P5.padding.slopes.normal.dense.7"
WHOLE = "authority.{}.B1.T20.S20.H2.K24.V16.normal.dense.8"
PREFIX = "authority.{}.H1.K24.V16.n3-5.prefix.normal.dense.9"

# One case of every op that works on rows, heads or experts alone.
ALONE = {
    "rms_norm": "authority.{}.B2.T13.D100.normal.dense.rank3.1",
    "add_rms_norm": "authority.{}.B2.T13.D100.cancels.normal.dense.rank3.2",
    "gated_group_rms_norm": "authority.{}.B2.T5.D96.G4.normal.ajar.dense.rank3.3",
    "swiglu": "authority.{}.B2.T13.I100.normal.wide.dense.rank3.4",
    "partial_rope": "authority.{}.B2.T5.H3.K40.R20.normal.apart.unit.dense.5",
    "interleaved_rope": "authority.{}.B2.T5.H3.R20.normal.apart.unit.dense.6",
    "moe_experts": "authority.{}.T7.D33.E5.I17.C3.normal.spread.usual.dense.7",
    "merge_attention": "authority.{}.B2.T3.H3.V40.normal.unequal.rank4.dense.8",
}


def judged(host: Host, name: str, op: str, case: str, dtype: str) -> str:
    for candidate in (c for c in host.candidates if (c.name, c.op) == (name, op)):
        part = next(p for p in parts(candidate, contract(op)) if p.dtype == dtype)
        parsed = contract(op).parse(f"{op}:{case.format(dtype)}")
        return judge_case(host, candidate, contract(op), part.profile, parsed).status
    raise AssertionError(f"no {name} for {op}")


def host_of(package: str, target: str) -> Iterator[Host]:
    """A worker of `target`; nothing is imported here, where Triton may be interpreting."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    with opened(Options(target)) as host:
        yield host


@pytest.fixture(scope="module")
def fla() -> Iterator[Host]:
    yield from host_of("fla", "fla")


@pytest.fixture(scope="module")
def liger() -> Iterator[Host]:
    yield from host_of("liger_kernel", "liger")


@pytest.fixture(scope="module")
def sglang() -> Iterator[Host]:
    yield from host_of("sglang", "sglang")


@pytest.fixture(scope="module")
def mlx() -> Iterator[Host]:
    pytest.importorskip("mlx.core", exc_type=ImportError)
    yield from host_of("mlx_lm", "mlx")


@pytest.fixture(scope="module")
def transformers() -> Iterator[Host]:
    yield from host_of("transformers", "transformers")


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", ["chunk", "chunk_gated", "recurrent", "recurrent_gated"])
def test_fla_conforms_with_the_slopes_of_the_model(fla: Host, name: str, dtype: str) -> None:
    for case in (PARTIAL, CUT, PACKED, GRADIENTS):
        assert judged(fla, name, ATTENTION, case, dtype) == "PASS", case


@pytest.mark.parametrize(
    ("name", "status"), [("chunk", "FAIL"), ("chunk_gated", "PASS"), ("recurrent", "PASS")]
)
def test_fla_loses_the_state_of_a_partial_chunk_to_a_strong_decay_per_head(
    fla: Host, name: str, status: str
) -> None:
    assert judged(fla, name, ATTENTION, STRONG, "bf16") == status


@pytest.mark.parametrize(
    ("name", "op"),
    [(op, op) for op in ALONE if op not in ("moe_experts", "merge_attention")]
    + [("rms_norm_of_groups", "rms_norm")],
)
def test_fla_s_rows_and_rotations_conform(fla: Host, name: str, op: str) -> None:
    assert judged(fla, name, op, ALONE[op], "bf16") == "PASS"


def test_fla_s_step_and_softmax_attention_conform(fla: Host) -> None:
    assert judged(fla, DECODE, DECODE, POOL, "bf16") == "PASS"
    for case, status in ((WHOLE, "PASS"), (PREFIX, "NOT SUPPORTED")):
        assert judged(fla, MLA, MLA, case, "bf16") == status, case


@pytest.mark.parametrize(
    ("name", "op"),
    [(op, op) for op in ("rms_norm", "add_rms_norm", "swiglu", "partial_rope", "moe_experts")]
    + [("swiglu_fused", "swiglu"), ("partial_rope_of_keys", "partial_rope")],
)
def test_liger_conforms(liger: Host, name: str, op: str) -> None:
    for dtype in ("f32", "bf16"):
        assert judged(liger, name, op, ALONE[op], dtype) == "PASS", dtype


@pytest.mark.parametrize("law", ["authority", "sharding"])
def test_liger_is_not_asked_for_experts_of_another_rank(liger: Host, law: str) -> None:
    routing = "foreign" if law == "authority" else "spread"  # shards of experts make such calls
    case = f"{law}.{{}}.T7.D16.E4.I8.C2.normal.{routing}.usual.dense.0"
    assert judged(liger, "moe_experts", "moe_experts", case, "bf16") == "NOT SUPPORTED"


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_sglang_conforms_with_the_slopes_of_the_model(sglang: Host, dtype: str) -> None:
    for case in (PARTIAL, CUT, STEP, PACKED.replace("3-0-17", "3-2-17")):
        assert judged(sglang, ATTENTION, ATTENTION, case, dtype) == "PASS", case
    assert judged(sglang, ATTENTION, ATTENTION, PACKED, dtype) == "NOT SUPPORTED"
    assert judged(sglang, DECODE, DECODE, POOL, dtype) == "PASS"


def test_sglang_loses_a_block_to_a_strong_decay_and_a_merge_without_any_key(sglang: Host) -> None:
    strong = STRONG.replace("T5", "T32")
    assert judged(sglang, ATTENTION, ATTENTION, strong, "bf16") == "FAIL"
    merge = "merge_attention"
    for kind, status in (("unequal", "PASS"), ("onesided", "PASS"), ("neither", "FAIL")):
        case = ALONE[merge].replace("unequal", kind)
        assert judged(sglang, merge, merge, case, "bf16") == status, kind


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_mlx_conforms_where_it_says_it_works(mlx: Host, dtype: str) -> None:
    for case in (PARTIAL, CUT, STEP):
        assert judged(mlx, ATTENTION, ATTENTION, case, dtype) == "PASS", case
    assert judged(mlx, DECODE, DECODE, POOL, dtype) == "PASS"
    for case in (PACKED, GRADIENTS, STRONG):
        assert judged(mlx, ATTENTION, ATTENTION, case, dtype) == "NOT SUPPORTED", case


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_lightning_attention_of_minimax_conforms(transformers: Host, dtype: str) -> None:
    for case in (PARTIAL, CUT, GRADIENTS, STEP):
        assert judged(transformers, ATTENTION, ATTENTION, case, dtype) == "PASS", case
    assert judged(transformers, ATTENTION, ATTENTION, PACKED, dtype) == "NOT SUPPORTED"
    strong = "PASS" if dtype == "f32" else "NOT SUPPORTED"  # slopes are rounded to bf16
    assert judged(transformers, ATTENTION, ATTENTION, STRONG, dtype) == strong


def test_a_missing_package_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "fla").mkdir()  # a package of that name with nothing in it
    (tmp_path / "fla" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    result = CliRunner().invoke(main, ["certify", "fla", "--profile", "smoke"])
    assert result.exit_code == 4
    assert "pip install lingspec[fla]" in result.output
