import importlib.util
import os
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
import torch

package = Path(importlib.util.find_spec("sglang").origin).parent
path = package / "kernels/ops/attention/merge_state.py"
file = importlib.util.spec_from_file_location("merge_state", path)
module = importlib.util.module_from_spec(file)
file.loader.exec_module(module)

none = torch.zeros(1, 1, 4), torch.full((1, 1), -torch.inf)  # attention of a row without a key
for name, other in (("one key", (torch.ones(1, 1, 4), torch.zeros(1, 1))), ("no key", none)):
    o, lse = module.merge_state_triton(*none, *other)
    print(f"no key and {name}: o is {o[0, 0, 0]:g}, lse is {lse[0, 0]:g}")
