"""Refusals: an argument, what it was, and what it must be. Shapes, dtypes and devices only.

The kernels' own copy: this package imports nothing of the reference.
"""

import torch
import triton
from torch import Tensor

__all__ = ["KERNEL_DTYPES", "ContractError", "require", "require_inputs", "require_runnable"]

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_DIM = 256


class ContractError(ValueError):
    """The caller broke an op's contract: a shape, a dtype or a value that it does not allow."""


def require(ok: bool, name: str, what: str, got: object, expected: str) -> None:
    """Raise unless ``ok``, naming the argument, what it was and what it must be.

    Raises:
        ContractError: ``ok`` is false.
    """
    if not ok:
        raise ContractError(f"{name} has {what} {got}, but must have {expected}")


def require_tensor(
    tensor: Tensor, name: str, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...], like: Tensor
) -> None:
    """Refuse a tensor of another shape, another dtype, or on another device than ``like``."""
    require(tuple(tensor.shape) == shape, name, "shape", tuple(tensor.shape), f"{shape}")
    wanted = " or ".join(str(dtype) for dtype in dtypes)
    require(tensor.dtype in dtypes, name, "dtype", tensor.dtype, wanted)
    require(tensor.device == like.device, name, "device", tensor.device, f"{like.device}, as q")


def require_inputs(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, dims: str) -> None:
    """Refuse q, k, v, log_decay whose shapes or dtypes no lightning kernel takes.

    Args:
        q:         What the others are compared with.
        k:         As q.
        v:         As q, but for the last dim.
        log_decay: (H,) float32.
        dims:      The dims of q, by letter, ending in H and K: ``BTHK``.
    """
    require(q.dim() == len(dims), "q", "shape", tuple(q.shape), f"{len(dims)} dims: {dims}")
    wanted = " or ".join(str(dtype) for dtype in KERNEL_DTYPES)
    require(q.dtype in KERNEL_DTYPES, "q", "dtype", q.dtype, wanted)
    require(v.dim() == len(dims), "v", "shape", tuple(v.shape), f"{len(dims)} dims: {dims[:-1]}V")
    K, V = q.shape[-1], v.shape[-1]
    require(1 <= K <= MAX_DIM, "q", "last dim", K, f"1 to {MAX_DIM}")
    require(1 <= V <= MAX_DIM, "v", "last dim", V, f"1 to {MAX_DIM}")
    require_tensor(k, "k", tuple(q.shape), (q.dtype,), q)
    require_tensor(v, "v", (*q.shape[:-1], V), (q.dtype,), q)
    require_tensor(log_decay, "log_decay", (q.shape[-2],), (torch.float32,), q)


def require_runnable(q: Tensor, kernel: object) -> None:
    """Refuse CPU tensors where ``kernel`` is compiled, not left to Triton's interpreter."""
    compiled = isinstance(kernel, triton.JITFunction)
    require(q.is_cuda or not compiled, "q", "device", q.device, "a GPU (or TRITON_INTERPRET=1)")
