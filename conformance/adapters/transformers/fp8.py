"""The conversions of checkpoints to and from FP8."""

from types import SimpleNamespace
from typing import Any

import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

from lingspec.conformance.adapter import implements

PACKAGES = ("transformers.integrations.finegrained_fp8",)
FLOATS = ("float32", "bfloat16", "float16")


def _divided(case: Any) -> bool | str:
    blocks = case.M % 128 == 0 and case.N % 128 == 0
    return (
        case.scales == "rows" or blocks or "leaves matrices that blocks do not divide as they are"
    )


@implements("fp8_quantize", profile=dict.fromkeys(FLOATS, "fp32"), supports=_divided,
            cost="native", packages=PACKAGES)  # fmt: skip
def fp8_quantize(x, *, block=None):  # type: ignore[no-untyped-def] # as the op
    if not x.numel():  # no call of the package's
        return x.to(torch.float8_e4m3fn), x.new_ones(_grid(x, block), dtype=torch.float32)
    given = SimpleNamespace(weight_block_size=block or (1, x.shape[1]), scale_fmt=None)
    done = Fp8Quantize(SimpleNamespace(quantization_config=given)).convert({"w.weight": x})
    return done["w.weight"], done["w.weight_scale_inv"]


def _counted(case: Any) -> bool | str:
    if case.scales == "rows":
        return True
    evenly = all(n == 0 or n % -(-n // 128) == 0 for n in (case.M, case.N))
    return evenly or "refuses sides that the number of their blocks does not divide"


@implements("fp8_dequantize", profile=dict.fromkeys(FLOATS, "fp32"), supports=_counted,
            cost="native", packages=PACKAGES)  # fmt: skip
def fp8_dequantize(q, scale, *, block=None, dtype):  # type: ignore[no-untyped-def] # noqa: ARG001 # as the op
    if not q.numel():
        return q.to(dtype)
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.empty(0, dtype=dtype))
    given = {"weight": q, "weight_scale_inv": scale}
    convert = Fp8Dequantize(None).convert
    return convert(given, full_layer_name="weight", model=model)["weight"]


def _grid(x: torch.Tensor, block: Any) -> tuple[int, int]:
    """The shape of the scales."""
    return (x.shape[0], 1) if block is None else (-(-x.shape[0] // 128), -(-x.shape[1] // 128))
