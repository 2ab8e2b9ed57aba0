import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

for rows in (192, 576):  # blocks of 128 rows, of which the last is cut off
    q = torch.ones(rows, 128).to(torch.float8_e4m3fn)
    scale = torch.arange(1.0, -(-rows // 128) + 1)[:, None]  # 1 for the first block, then 2, ...
    try:
        x = Fp8Dequantize(None).convert({"weight": q, "weight_scale_inv": scale})["weight"]
        print(f"{rows} rows: row 127, of block 0, is {x[127, 0]:g}, must be 1")
    except ValueError as refused:
        print(f"{rows} rows: {refused}")
