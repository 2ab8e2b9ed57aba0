"""Every configuration that an H100 would be given compiles for it, with no spill, no GPU needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED_LIMIT = 232448  # bytes a block may ask for on sm_90
DTYPES = ("float32", "bfloat16", "float16")
SCANS = ("forward", "dq", "dk", "dv")
CONFIGURATIONS = [
    *((scan, 128, 128, dtype, False) for scan in SCANS for dtype in ("float32", "bfloat16")),
    *((scan, 128, 128, "float16", False) for scan in ("forward", "dv")),
    *((scan, 128, 128, "bfloat16", True) for scan in ("forward", "dv")),
    *(("forward", D, D, dtype, False) for D in (16, 64, 256) for dtype in DTYPES),
    ("dv", 256, 256, "float16", False),
    ("forward", 80, 48, "bfloat16", False),
    *(("step", D, D, "float32", False) for D in (16, 128, 256)),
    ("step", 128, 128, "bfloat16", False),
]


@pytest.fixture(scope="module")
def built():
    """What `compile_for_sm90a.py` says of each configuration."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    script = Path(__file__).with_name("compile_for_sm90a.py")
    asked = "".join(json.dumps(configuration) + "\n" for configuration in CONFIGURATIONS)
    ran = subprocess.run(
        [sys.executable, script], input=asked, env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return dict(zip(CONFIGURATIONS, lines, strict=True))


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda c: "-".join(map(str, c)))
def test_nothing_spills_and_shared_memory_suffices(configuration, built):
    found = built[configuration]
    assert found["stack"] == 0, found
    assert found["local"] == 0, found
    assert found["shared"] <= SHARED_LIMIT, found


@pytest.mark.parametrize("scan", SCANS)
def test_the_scans_of_the_model_run_on_wgmma_alone(scan, built):
    found = built[scan, 128, 128, "bfloat16", False]
    assert found["wgmma"] >= 20, found
    assert found["mma_sync"] == 0, found


@pytest.mark.parametrize("scan", SCANS)
def test_the_next_chunks_of_the_model_are_loaded_ahead(scan, built):
    assert built[scan, 128, 128, "bfloat16", False]["cp_async"] > 0


def test_float32_products_are_not_given_to_the_tensor_cores(built):
    found = built["forward", 128, 128, "float32", False]
    assert found["wgmma"] == found["mma_sync"] == 0, found
