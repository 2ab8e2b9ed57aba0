"""SGLang: the Triton kernels that serve Ling 2.5's linear attention, and some beside them.

The package asks for a GPU and some hundred others, which these kernels do not use. It is installed
without them, so it is no extra (pip would bring them all):

    pip install --no-deps sglang==0.5.23

Nothing of it is imported but the files named here, each by its path and on its own.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from lingspec.conformance.adapter import implements

OPS = "kernels/ops"


def _file(path: str) -> ModuleType:
    """A file of the package as a module, without the package around it."""
    package = importlib.util.find_spec("sglang")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'sglang'", name="sglang")
    place = Path(package.origin).parent / OPS / f"{path}.py"
    name = "sglang." + f"{OPS}/{path}".replace("/", ".")  # as it is called where all is imported
    if not place.is_file():
        raise ModuleNotFoundError(f"No file {OPS}/{path}.py in this version", name="sglang")
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


seg_la = _file("attention/linear/seg_la")
merge_state = _file("attention/merge_state")
ONE = 128  # dims of a head, Ling's: what the kernel of one token takes; prompts also half of it.
WIDE = dict.fromkeys(("float32", "bfloat16", "float16"), "fp32")
# seg_la.py:122-181: everything is widened when loaded, products of float32 are tf32 (Triton's
# default). What a quarter of a head's channels reads is rounded to the dtype of q (`tmp`, line 544)
# before the quarters are added up.
CHUNK = {"float32": "tf32", "bfloat16": "tf32+product=bf16", "float16": "tf32+product=fp16"}


# -- linear attention ----------------------------------------------------------------------------


def _no_empty(case: Any) -> bool | str:
    return case.shortest > 0 or case.T == 0 or "no empty sequences among others"


@implements("lightning_attention", profile=CHUNK, supports=_no_empty, packages=(seg_la.__name__,))
def lightning_attention(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):  # type: ignore[no-untyped-def] # as the op
    B, T, H, K = q.shape
    V = v.shape[-1]
    ends = cu_seqlens if cu_seqlens is not None else torch.arange(B + 1) * T
    N = len(ends) - 1
    D = ONE // 2 if max(K, V) <= ONE // 2 and B * T > N else ONE  # filled up with zeros
    # As the engine, which clears a slot before a new sequence has it: the kernel of one token,
    # taken where all sequences have one, reads it whatever `s_scales` says.
    pool = q.new_zeros(N, H, D, D, dtype=torch.float32)
    if initial_state is not None:
        pool[:, :, :K, :V] = initial_state
    if B * T == 0:  # no call of the package's
        return torch.empty_like(v), pool[:, :, :K, :V].contiguous()
    o = _called(q, k, v, log_decay, pool, torch.arange(N), ends, scale, initial_state is not None)
    return o.view(B, T, H, D)[..., :V].contiguous(), pool[:, :, :K, :V].contiguous()


@implements("lightning_decode", profile=WIDE, packages=(seg_la.__name__,))
def lightning_decode(q, k, v, log_decay, state_pool, slots, *, scale):  # type: ignore[no-untyped-def] # as the op
    B, K, V = len(q), q.shape[-1], v.shape[-1]
    if not B:  # no call of the package's
        return torch.empty_like(v)
    pool = torch.nn.functional.pad(state_pool, (0, ONE - V, 0, ONE - K)).contiguous()
    o = _called(q, k, v, log_decay, pool, slots, torch.arange(B + 1), scale, state=True)
    state_pool.copy_(pool[:, :, :K, :V])
    return o[..., :V].masked_fill((slots < 0)[:, None, None], 0.0)  # the package leaves these out


def _called(
    q: Any, k: Any, v: Any, log_decay: Any, pool: Any, slots: Any, ends: Any, scale: float,
    state: bool,
) -> Any:  # fmt: skip
    H, D = pool.shape[1:3]
    q, k, v = (torch.nn.functional.pad(x, (0, D - x.shape[-1])) for x in (q, k, v))
    q, k, v = (x.contiguous().view(-1, H, D) for x in (q, k, v))
    ends = ends.to(torch.int32)
    N = len(ends) - 1
    lengths = ends[1:] - ends[:-1]
    meta = seg_la.SegLaMeta(
        batch_size=N, max_q_length=int(lengths.max()), q_offsets=ends, q_lengths=lengths,
        s_offsets=slots.to(torch.int32), s_scales=torch.full((N,), float(state)),
    )  # fmt: skip
    return seg_la.seg_la_fwd(q, k, v, pool, -log_decay, meta, softmax_scale=scale)


# -- attention over two sets of keys ---------------------------------------------------------


@implements("merge_attention", profile=WIDE, packages=(merge_state.__name__,))
def merge_attention(o1, lse1, o2, lse2):  # type: ignore[no-untyped-def] # as the op
    H = lse1.shape[-1] if lse1.dim() > 1 else 1
    states = (x.reshape(-1, H, *x.shape[lse1.dim() :]).contiguous() for x in (o1, lse1, o2, lse2))
    o, lse = merge_state.merge_state_triton(*states)
    return o.view(o1.shape), lse.view(lse1.shape)
