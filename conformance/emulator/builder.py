"""What each operation of Triton's language computes: the interpreter's builder, mended.

The language's own front end decides types and promotions, as when compiling; this class
only computes. A bfloat16 value is held as its bits, in uint16.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import triton.language as tl
from triton._C.libtriton import ir
from triton.backends.nvidia.compiler import min_dot_size
from triton.runtime import interpreter

from . import floats
from .errors import Refused
from .libdevice import evaluate
from .memory import MEMORY

Array = floats.Array
Handle = Any  # a triton.runtime.interpreter.TensorHandle
Handles = interpreter.TensorHandle

_COMPARISONS = frozenset(
    {np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal}
)
_BITWISE = frozenset({np.bitwise_and, np.bitwise_or, np.bitwise_xor})
_FP8 = frozenset({"fp8e5", "fp8e5b16", "fp8e4nv", "fp8e4b8", "fp8e4b15"})


def numbers(handle: Handle) -> Array:
    """Return the handle's values as numpy numbers."""
    return widened(handle.data, handle.dtype.scalar)


def widened(data: Array, dtype: Any) -> Array:
    """Return values as numpy numbers: bfloat16 widened, all else as held."""
    return floats.bf16_to_float32(data) if dtype.name == "bf16" else data


def narrowed(values: Array, dtype: Any) -> Array:
    """Round numbers to ``dtype``, to nearest even, as a cast does."""
    if dtype.name != "bf16":
        held = interpreter._get_np_dtype(dtype)
        if values.dtype.kind == "f" and held.kind in "iu":
            return floats.float_to_integer(values, held)
        return values.astype(held, copy=False)
    if values.dtype.kind in "iu":
        return floats.integer_to_bf16(values)
    if values.dtype == np.float64:
        return floats.float64_to_bf16(values)
    return floats.float32_to_bf16(values.astype(np.float32, copy=False))


def refuse_fp8(*types: Any) -> None:
    """Refuse 8-bit floats, whose casts the interpreter does not round as hardware does."""
    for dtype in types:
        if dtype.name in _FP8:
            raise Refused(f"arithmetic and casts of {dtype.name} are not emulated")


_Interpreter: Any = interpreter.InterpreterBuilder


class Builder(_Interpreter):  # type: ignore[misc] # Triton has no types
    """Computes as an NVIDIA GPU does, where that is defined.

    Not emulated: the contraction of a product and a sum into one fma, the order of a
    tensor core's accumulation, approximations of ``exp`` and its like, 8-bit floats.
    """

    codegen_fns: dict[str, Any]

    def __init__(self, target: Any, *, sanitize_overflow: bool) -> None:
        super().__init__()
        # an overflow is an assertion of the language, and those hold in debug mode only
        changes = {"sanitize_overflow": sanitize_overflow, "debug": sanitize_overflow}
        self.options: Any = replace(interpreter.InterpreterOptions(), **changes)
        self.codegen_fns["min_dot_size"] = min_dot_size(target)
        self.grid_idx = (0, 0, 0)
        self.waited = False  # since it was set: whether there was an atomic operation

    # what is no operation of the language

    def ask(self, handle: Handle, look: Callable[[Array], Any]) -> Any:
        """Return what the kernel's Python sees of a value."""
        return look(handle.data)

    def compute(self, dtype: Any, function: Callable[..., Any], *handles: Handle) -> Handle:
        """Return what numpy makes of the values as held; no dimensions mean a scalar."""
        data = np.asarray(function(*[h.data for h in handles]))
        data = data.astype(interpreter._get_np_dtype(dtype), copy=False)
        return Handles(data if data.ndim else data.reshape(1), dtype)

    # casts

    def cast_impl(self, src: Handle, dst_type: Any) -> Handle:
        source, target = src.dtype.scalar, dst_type.scalar
        if source.name == target.name:
            return Handles(src.data, target)
        if source.is_floating():
            refuse_fp8(source, target)
        return Handles(narrowed(numbers(src), target), target)

    def create_fp_to_fp(self, src: Handle, dst_type: Any, rounding_mode: Any) -> Handle:
        target = dst_type.scalar
        if rounding_mode != ir.ROUNDING_MODE.RTZ:
            return self.cast_impl(src, dst_type)
        refuse_fp8(src.dtype.scalar, target)
        if target.name == "bf16":
            return Handles(floats.truncate_to_bf16(numbers(src)), target)
        return Handles(floats.toward_zero(numbers(src), interpreter._get_np_dtype(target)), target)

    def get_bf16(self, value: float) -> Handle:
        return Handles(floats.float32_to_bf16(np.array([value], np.float32)), tl.bfloat16)

    # arithmetic

    def binary_op(self, lhs: Handle, rhs: Handle, op: Callable[..., Array]) -> Handle:
        dtype = lhs.dtype.scalar
        if op in _COMPARISONS:
            return Handles(op(numbers(lhs), numbers(rhs)), tl.int1)
        if dtype.name == "bf16" and op not in _BITWISE:
            return Handles(self._bf16(op, numbers(lhs), numbers(rhs)), dtype)
        a, b = lhs.data, rhs.data
        if a.dtype == np.bool_ and op not in _BITWISE:  # int1 counts modulo 2
            return Handles((op(a.astype(np.int8), b.astype(np.int8)) & 1).astype(np.bool_), dtype)
        out = op(a, b)
        expected = interpreter._get_np_dtype(dtype)
        return Handles(out if out.dtype == expected else out.astype(expected), dtype)

    @staticmethod
    def _bf16(op: Callable[..., Array], a: Array, b: Array) -> Array:
        if op is np.multiply:  # in float32 a product may be subnormal, and round twice
            return floats.float64_to_bf16(a.astype(np.float64) * b.astype(np.float64))
        return floats.float32_to_bf16(op(a, b))

    def unary_op(self, arg: Handle, op: Callable[..., Array]) -> Handle:
        dtype = arg.dtype.scalar
        if dtype.name in ("bf16", "fp16") and op is not np.negative:
            raise Refused(f"{op.__name__} of {dtype.name}: Triton wants fp32 or fp64, cast first")
        if dtype.name == "bf16":
            return Handles(arg.data ^ np.uint16(0x8000), dtype)
        return Handles(op(arg.data), dtype)

    def create_minnumf(self, lhs: Handle, rhs: Handle) -> Handle:
        return self.binary_op(lhs, rhs, np.fmin)

    def create_maxnumf(self, lhs: Handle, rhs: Handle) -> Handle:
        return self.binary_op(lhs, rhs, np.fmax)

    def create_clampf(self, arg: Handle, lo: Handle, hi: Handle, propagate_nans: Any) -> Handle:
        if propagate_nans == ir.PROPAGATE_NAN.NONE:
            return self.create_minnumf(self.create_maxnumf(arg, lo), hi)
        return self.create_minimumf(self.create_maximumf(arg, lo), hi)

    def create_fma(self, x: Handle, y: Handle, z: Handle) -> Handle:
        dtype = z.dtype.scalar
        if dtype.name == "fp64":
            return super().create_fma(x, y, z)
        fused = floats.fused_multiply_add(numbers(x), numbers(y), numbers(z))
        return Handles(narrowed(fused, dtype), dtype)

    def create_ashr(self, lhs: Handle, rhs: Handle) -> Handle:
        left, right = (
            Handles(h.data.astype(interpreter._get_signed_np_dtype(h.data.dtype)), h.dtype)
            for h in (lhs, rhs)
        )
        return self.binary_op(left, right, np.right_shift)

    def create_dot(
        self, a: Handle, b: Handle, d: Handle, input_precision: Any, max_num_imprecise_acc: int
    ) -> Handle:
        """Multiply tiles; bf16, fp16 and float32 operands accumulate in float32.

        A float32 product is tf32 unless the kernel asks otherwise: each operand loses its
        last 13 bits. tf32x3 counts as exact.
        """
        operand, result = a.dtype.scalar, d.dtype.scalar
        refuse_fp8(operand, b.dtype.scalar)
        x, y = numbers(a), numbers(b)
        if operand.is_int():
            # |sum| < 2^53: the product is exact in float64, and wraps to int32 like the sum
            exact = np.matmul(x.astype(np.float64), y.astype(np.float64)).astype(np.int64)
            return Handles((exact + d.data).astype(np.int32), result)
        if operand.name == "fp64":
            return Handles(np.matmul(x, y) + d.data, result)
        if operand.name == "fp32" and input_precision == ir.INPUT_PRECISION.TF32:
            x, y = floats.truncate_to_tf32(x), floats.truncate_to_tf32(y)
        x, y = x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
        if result.name == "fp16":
            return Handles(self._accumulate_in_fp16(x, y, d.data), result)
        return Handles(np.matmul(x, y) + d.data, result)

    @staticmethod
    def _accumulate_in_fp16(x: Array, y: Array, total: Array) -> Array:
        """Round after every 16 terms, as one tensor-core instruction does."""
        for k in range(0, x.shape[-1], 16):
            terms = np.matmul(x[..., k : k + 16], y[..., k : k + 16, :])
            total = (terms + total.astype(np.float32)).astype(np.float16)
        return total

    def create_dot_scaled(self, *operands: Any) -> Handle:
        """Refuse: its operands are 8-bit or smaller floats."""
        raise Refused(f"tl.dot_scaled is not emulated ({len(operands)} operands given)")

    def create_extern_elementwise(
        self, lib: str, path: str, symbol: str, args: list[Handle], ret: Any, pure: bool
    ) -> Handle:
        dtype = ret.scalar
        values = evaluate(symbol, [h.data for h in args], interpreter._get_np_dtype(dtype))
        return Handles(values, dtype)

    # memory; the versions differ in what follows the mask

    def create_masked_load(
        self, ptrs: Handle, mask: Handle, other: Handle | None, *policy: Any, **more: Any
    ) -> Handle:
        dtype = ptrs.get_element_ty()
        stored = interpreter._get_np_dtype(dtype)
        address, lanes = ptrs.data, np.asarray(mask.data)
        MEMORY.check("load", address, lanes, stored.itemsize, self.grid_idx)
        fill = np.zeros(address.shape, stored) if other is None else other.data
        loaded = interpreter._interpreter.load(address, lanes, fill, stored)
        return Handles(loaded, dtype)

    def create_masked_store(
        self, ptrs: Handle, value: Handle, mask: Handle, *policy: Any, **more: Any
    ) -> None:
        stored = interpreter._get_np_dtype(ptrs.get_element_ty())
        address, lanes = ptrs.data, np.asarray(mask.data)
        MEMORY.check("store", address, lanes, stored.itemsize, self.grid_idx)
        values = value.data.astype(stored, copy=False)
        interpreter._interpreter.store(address, values, lanes)

    def create_atomic_cas(self, ptr: Handle, cmp: Handle, val: Handle, *order: Any) -> Handle:
        self.waited = True
        lanes = np.ones(ptr.data.shape, np.bool_)
        MEMORY.check("atomic", ptr.data, lanes, val.data.itemsize, self.grid_idx)
        wanted = cmp.data.view(f"u{val.data.itemsize}")

        def exchange(old: Array, new: Array, lane: Any) -> Array:
            return np.where(old == wanted[lane], new, old)

        return Handles(_lane_by_lane(ptr.data, val.data, lanes, exchange), val.dtype.scalar)

    def create_atomic_rmw(
        self, rmw: Any, ptr: Handle, val: Handle, mask: Handle, sem: Any, scope: Any
    ) -> Handle:
        self.waited = True
        dtype = val.dtype.scalar
        MEMORY.check("atomic", ptr.data, mask.data, val.data.itemsize, self.grid_idx)
        if rmw == ir.ATOMIC_OP.XCHG:
            old = _lane_by_lane(ptr.data, val.data, mask.data, lambda _, new, __: new)
        elif dtype.name != "bf16":
            return super().create_atomic_rmw(rmw, ptr, val, mask, sem, scope)
        elif rmw == ir.ATOMIC_OP.FADD:
            old = _lane_by_lane(ptr.data, val.data, mask.data, _bf16_sum)
        else:
            raise Refused(f"atomic {rmw} on bf16: no GPU instruction does it, only add")
        return Handles(old, dtype)


def _bf16_sum(old: Array, new: Array, _: Any) -> Array:
    return floats.float32_to_bf16(floats.bf16_to_float32(old) + floats.bf16_to_float32(new))


def _lane_by_lane(
    address: Array, values: Array, mask: Array, change: Callable[[Array, Array, Any], Array]
) -> Array:
    """Change memory one active lane after the other, and return what each found there.

    So lanes that share an address all count. ``change`` gets bits, as unsigned integers.
    """
    new = np.ascontiguousarray(values).view(f"u{values.itemsize}")
    old = np.zeros(new.shape, new.dtype)
    load, store = interpreter._interpreter.load, interpreter._interpreter.store
    one, zero = np.ones(1, np.bool_), np.zeros(1, new.dtype)
    for lane in zip(*np.nonzero(mask), strict=True):
        where = address[lane].reshape(1)
        here = load(where, one, zero, new.dtype)
        store(where, np.ascontiguousarray(change(here, new[lane].reshape(1), lane)), one)
        old[lane] = here[0]
    return old.view(values.dtype)
