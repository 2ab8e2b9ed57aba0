import mlx.core as mx
from mlx_lm.models.bailing_hybrid import recurrent_gla

mx.random.seed(0)
q, k, v = (mx.random.normal((1, 1, 2, 16)).astype(mx.bfloat16) for _ in range(3))
g = mx.array([-0.5])
_, wide = recurrent_gla(*(x.astype(mx.float32) for x in (q, k, v)), g, scale=1.0)
_, at_once = recurrent_gla(q, k, v, g, scale=1.0)
_, h = recurrent_gla(q[:, :, :1], k[:, :, :1], v[:, :, :1], g, scale=1.0)
_, stepped = recurrent_gla(q[:, :, 1:], k[:, :, 1:], v[:, :, 1:], g, scale=1.0, h=h)
for name, h in (("two tokens at once", at_once), ("one by one", stepped)):
    print(
        f"{name}: {h.dtype}, error {(h - wide).abs().max() / wide.abs().max():.1e} of the largest"
    )
