"""The adapters of other packages, through the real runner, on a handful of cases each."""

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

ATTENTION, DECODE = "lightning_attention", "lightning_decode"

# A partial chunk, a cut, packed sequences, gradients; what only some of them can do.
PARTIAL = "authority.{}.B1.T70.H2.K16.V24.state.slopes.normal.dense.1"
CUT = "handover.{}.B1.T66.H2.K16.V16.state.mild.normal.fused.cut65.2"
PACKED = "packed.{}.H1.K16.V16.n3-0-17.slopes.normal.dense.3"
GRADIENTS = "gradients.{}.B1.T20.H2.K16.V16.state.slopes.normal.dense.4"
STRONG = "authority.{}.B1.T5.H1.K16.V16.strong.normal.dense.5"
STEP = "authority.{}.B1.T1.H2.K16.V16.state.slopes.normal.dense.6"
POOL = "authority.{}.B3.H2.K16.V24.P5.padding.slopes.normal.dense.7"


def judged(host: Host, name: str, op: str, case: str, dtype: str) -> str:
    for candidate in (c for c in host.candidates if (c.name, c.op) == (name, op)):
        part = next(p for p in parts(candidate, contract(op)) if p.dtype == dtype)
        parsed = contract(op).parse(f"{op}:{case.format(dtype)}")
        return judge_case(host, candidate, contract(op), part.profile, parsed).status
    raise AssertionError(f"no {name} for {op}")


def host_of(package: str, target: str) -> Iterator[Host]:
    pytest.importorskip(package, exc_type=ImportError)
    with opened(Options(target)) as host:
        yield host


@pytest.fixture(scope="module")
def fla() -> Iterator[Host]:
    yield from host_of("fla.ops.simple_gla", "fla")


@pytest.fixture(scope="module")
def mlx() -> Iterator[Host]:
    pytest.importorskip("mlx.core", exc_type=ImportError)
    yield from host_of("mlx_lm", "mlx")


@pytest.fixture(scope="module")
def transformers() -> Iterator[Host]:
    yield from host_of("transformers.models.minimax", "transformers")


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
