"""The functions of CUDA's libdevice that kernels call, evaluated in float64 and rounded once.

Their approximate forms (``fast_expf``) count as exact. A function that is not listed is
refused by name.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .errors import Refused

Array = np.ndarray[Any, np.dtype[Any]]

_FROM_NUMPY: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "cbrt": np.cbrt,
    "ceil": np.ceil,
    "copysign": np.copysign,
    "cos": np.cos,
    "cosh": np.cosh,
    "div_rn": np.divide,
    "exp": np.exp,
    "exp10": lambda x: np.power(10.0, x),
    "exp2": np.exp2,
    "expm1": np.expm1,
    "fabs": np.abs,
    "fdivide": np.divide,
    "finite": np.isfinite,
    "floor": np.floor,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "fmod": np.fmod,
    "hypot": np.hypot,
    "isinf": np.isinf,
    "isfinited": np.isfinite,
    "isnan": np.isnan,
    "llrint": np.rint,
    "log": np.log,
    "log10": np.log10,
    "log1p": np.log1p,
    "log2": np.log2,
    "max": np.maximum,
    "min": np.minimum,
    "nearbyint": np.rint,
    "pow": np.power,
    "powi": np.power,
    "rcp_rn": np.reciprocal,
    "rint": np.rint,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "rsqrt_rn": lambda x: 1.0 / np.sqrt(x),
    "signbit": np.signbit,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "sqrt_rn": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
    "trunc": np.trunc,
}
_FROM_TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "erf": torch.erf,
    "erfc": torch.erfc,
    "erfinv": torch.erfinv,
    "lgamma": torch.lgamma,
}


def evaluate(symbol: str, args: list[Array], result: np.dtype[Any]) -> Array:
    """Apply the libdevice function called ``symbol``, such as ``__nv_fast_expf``."""
    name = symbol.removeprefix("__nv_").removeprefix("fast_")
    if name not in _FROM_NUMPY and name not in _FROM_TORCH:
        name = name.removesuffix("f")
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in args]
    if name in _FROM_NUMPY:
        return np.asarray(_FROM_NUMPY[name](*wide)).astype(result)
    if name in _FROM_TORCH:
        (x,) = wide
        return _FROM_TORCH[name](torch.from_numpy(np.ascontiguousarray(x))).numpy().astype(result)
    raise Refused(f"libdevice function {symbol} is not emulated")
