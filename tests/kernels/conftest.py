"""Every test here runs the kernels in the emulator, with poisoned allocations."""

import pytest
import torch

from lingspec.conformance import emulator

with emulator.emulated():  # a kernel is interpreted if it was decorated here
    import lingspec.kernels  # noqa: F401


@pytest.fixture(scope="module", autouse=True)
def _emulated():
    with emulator.emulated():
        yield


@pytest.fixture(autouse=True)
def _poisoned():
    """`torch.empty` gives NaN, so that what a kernel leaves unwritten shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
