"""Unmodified kernels of Liger, which were written without an interpreter in mind."""

import sys

import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("liger_kernel")

from lingspec.conformance import emulator


@pytest.fixture(scope="module")
def functions():
    before = {name: module for name, module in sys.modules.items() if name.startswith("liger")}
    for name in before:
        del sys.modules[name]
    with emulator.emulated():
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction

        yield LigerRMSNormFunction, LigerSiLUMulFunction
    for name in [name for name in sys.modules if name.startswith("liger")]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_agrees_with_its_formula(functions, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 96, generator=generator).to(dtype).requires_grad_()
    weight = torch.rand(96, generator=generator).to(dtype).requires_grad_()
    y = functions[0].apply(x, weight, 1e-6, 0.0, "llama", False)
    y.backward(torch.ones_like(y))

    wide, scale = (t.detach().double().requires_grad_() for t in (x, weight))
    unit = wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    expected = unit * scale
    expected.sum().backward()

    step = torch.finfo(dtype).eps
    assert ((y - expected).abs() <= 2 * step * expected.abs() + 1e-7).all()
    assert (x.grad - wide.grad).abs().max() < 4 * step
    assert (weight.grad - scale.grad).abs().max() < 20 * step


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swiglu_agrees_with_its_formula(functions, dtype):
    generator = torch.Generator().manual_seed(0)
    gate, up = (torch.randn(6, 96, generator=generator).to(dtype) for _ in range(2))
    y = functions[1].apply(gate, up)
    expected = torch.nn.functional.silu(gate.double()) * up.double()
    assert ((y - expected).abs() <= 2 * torch.finfo(dtype).eps * expected.abs() + 1e-7).all()
