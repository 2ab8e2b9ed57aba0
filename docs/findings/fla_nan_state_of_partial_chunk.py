import os

os.environ["TRITON_INTERPRET"] = "1"
import torch
import triton
from fla.ops.common import chunk_h

# Two things that a GPU would not need: one of the autotuner's tiles, and loop indices with `.to`.
kernel = chunk_h.chunk_fwd_kernel_h
kernel.fn = triton.heuristics({"BK": lambda _: 32, "BV": lambda _: 32})(kernel.fn.fn)
Index = type("Index", (int,), {"to": lambda i, _: i})
chunk_h.range = lambda n: map(Index, range(n))

k = v = torch.ones(1, 1, 1, 32)  # one token: a chunk of 64 with 63 rows masked
for decay in (-1.40, -1.41):
    gamma = torch.tensor([decay]) / 0.6931472  # as chunk_simple_gla hands it on: base 2
    _, state = chunk_h.chunk_fwd_h(k, v, g_gamma=gamma, output_final_state=True)
    print(f"log decay {decay}: the state after one token is {state[0, 0, 0, 0]:g}, must be 1")
