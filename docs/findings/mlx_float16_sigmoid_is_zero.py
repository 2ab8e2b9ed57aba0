import mlx.core as mx
import mlx.nn as nn

x = mx.array([-11.0, -11.5, -12.0])
for dtype in (mx.float32, mx.bfloat16, mx.float16):
    print(dtype, "sigmoid", mx.sigmoid(x.astype(dtype)).tolist(), end=" ")
    print("silu", nn.silu(x.astype(dtype)).tolist())
