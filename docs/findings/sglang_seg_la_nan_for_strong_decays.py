import importlib.util
import os
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
import torch
from triton.runtime.interpreter import InterpreterBuilder as Builder

# What a GPU would not need: the interpreter wants masks to be booleans, and a scalar is none.
load = Builder.create_masked_load
Builder.create_masked_load = lambda self, ptr, mask, *rest: load(
    self, ptr, type(mask)(mask.data.astype(bool), mask.dtype), *rest
)
package = Path(importlib.util.find_spec("sglang").origin).parent
path = package / "kernels/ops/attention/linear/seg_la.py"
file = importlib.util.spec_from_file_location("seg_la", path)
seg_la = importlib.util.module_from_spec(file)
file.loader.exec_module(seg_la)

x, ends = torch.ones(32, 1, 128), torch.tensor([0, 32])  # one sequence, one block of 32 tokens
meta = seg_la.SegLaMeta(1, 32, ends, torch.zeros(1, dtype=int), ends[1:], torch.zeros(1))
for slope in (2.86, 2.87):
    o = seg_la.seg_la_fwd(x, x, x, torch.zeros(1, 1, 128, 128), torch.tensor([slope]), meta)
    print(f"log decay -{slope}: {int(o.isnan().any(-1).sum())} of 32 tokens are NaN")
