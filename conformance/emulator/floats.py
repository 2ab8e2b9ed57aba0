"""Floating-point formats that numpy lacks, as bit operations.

bfloat16 is held as uint16, the upper half of a float32. Every rounding here is a single
one: a float64 that goes to bfloat16 goes through float32 *rounded to odd*, which leaves
the final rounding as if it had seen all bits.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_NAN = np.uint16(0x7FFF)  # what cvt.rn.bf16.f32 makes of any NaN
_SIGNLESS = np.uint32(0x7FFFFFFF)
_INFINITY = np.uint32(0x7F800000)


def bf16_to_float32(bits: Array) -> Array:
    """Widen; exact."""
    wide = bits.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)


def float32_to_bf16(x: Array) -> Array:
    """Round to nearest, ties to even; subnormals kept, NaN to the one NaN."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += bits
    rounded += np.uint32(0x7FFF)
    rounded >>= np.uint32(16)
    narrow = rounded.astype(np.uint16)
    nan = (bits & _SIGNLESS) > _INFINITY
    if nan.any():
        narrow[nan] = _NAN
    return narrow.reshape(np.shape(x))


def float64_to_bf16(x: Array) -> Array:
    """Round to nearest, ties to even, once."""
    return float32_to_bf16(float64_to_odd_float32(x))


def integer_to_bf16(x: Array) -> Array:
    """Round to nearest, ties to even, once."""
    if x.dtype.itemsize < 8:
        return float64_to_bf16(x.astype(np.float64))
    # float64 holds the upper 52 bits; any of the lower ones only has to break a tie
    lost = (x & x.dtype.type(0xFFF)) != 0
    kept = (x & ~x.dtype.type(0xFFF)) | (lost.astype(x.dtype) << x.dtype.type(11))
    large = (x > x.dtype.type(2**52)) | (x.astype(np.int64) < -(2**52))
    return float64_to_bf16(np.where(large, kept, x).astype(np.float64))


def float_to_integer(x: Array, dtype: np.dtype[Any]) -> Array:
    """Truncate as a GPU does: clamp to the range, NaN to 0, or to 2^63 in 64 bits.

    An 8-bit integer is the lower half of a 16-bit one.
    """
    wide = np.dtype(f"{dtype.kind}{max(dtype.itemsize, 2)}")
    limits = np.iinfo(wide)
    cut: Array = x.astype(wide)
    cut = np.where(x >= np.float64(limits.max), wide.type(limits.max), cut)
    cut = np.where(x <= np.float64(limits.min), wide.type(limits.min), cut)
    if np.isnan(x).any():
        nan = np.uint64(2**63 if wide.itemsize == 8 else 0).astype(wide)
        cut = np.where(np.isnan(x), nan, cut)
    return cut.astype(dtype)


def truncate_to_bf16(x: Array) -> Array:
    """Round a float32 or float64 toward zero."""
    x32 = toward_zero(x, np.dtype(np.float32)) if x.dtype == np.float64 else x
    bits = np.ascontiguousarray(x32, dtype=np.float32).view(np.uint32)
    narrow = (bits >> np.uint32(16)).astype(np.uint16)
    narrow[(bits & _SIGNLESS) > _INFINITY] = _NAN
    return narrow.reshape(np.shape(x))


def toward_zero(x: Array, dtype: np.dtype[Any]) -> Array:
    """Cast to a narrower numpy float, rounding toward zero."""
    nearest: Array = x.astype(dtype)
    over = np.abs(nearest.astype(x.dtype)) > np.abs(x)
    cut: Array = np.where(over, np.nextafter(nearest, dtype.type(0)), nearest)
    return cut


def float64_to_odd_float32(x: Array) -> Array:
    """Cast toward zero, then set the last bit if that dropped anything."""
    down = toward_zero(x, np.dtype(np.float32))
    inexact = (down.astype(np.float64) != x) & ~np.isnan(x)
    odd: Array = down.view(np.uint32) | inexact.astype(np.uint32)
    return odd.view(np.float32)


def truncate_to_tf32(x: Array) -> Array:
    """Clear the 13 bits of a float32 that a tf32 tensor core does not read."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    kept: Array = bits & np.uint32(0xFFFFE000)
    return kept.view(np.float32).reshape(np.shape(x))


def fused_multiply_add(x: Array, y: Array, z: Array) -> Array:
    """Return x*y + z as a float64 from which one rounding gives the fused result.

    For operands of at most 24 bits: their product is exact in float64, and the sum is
    rounded to odd, so that rounding it again to 24 bits or fewer is as rounding once.
    """
    product = x.astype(np.float64) * y.astype(np.float64)
    addend = z.astype(np.float64)
    total = product + addend
    part = total - product
    lost = (product - (total - part)) + (addend - part)
    inexact = (lost != 0) & np.isfinite(total)
    beyond = inexact & ((lost > 0) != (total > 0))  # rounded away from zero
    total = np.where(beyond, np.nextafter(total, 0.0), total)
    odd: Array = np.ascontiguousarray(total).view(np.uint64) | inexact.astype(np.uint64)
    return odd.view(np.float64)
