import mlx.core as mx
from mlx_lm.models.bailing_hybrid import Gate, ModelArgs

D, E = 1024, 256
known = ModelArgs.__dataclass_fields__
told = {"hidden_size": D, "num_experts": E, "n_group": 8, "topk_group": 4}
told |= {"num_experts_per_tok": 8, "head_dim": 2, "score_function": "sigmoid"}
args = ModelArgs(**{**dict.fromkeys(known, 1), **told})
mx.random.seed(0)
gate = Gate(args)
gate.set_dtype(mx.bfloat16, lambda _: True)
x = mx.random.normal((1000, D)).astype(mx.bfloat16)
narrow = mx.sort(gate(x)[0], axis=-1)
gate.set_dtype(mx.float32, lambda _: True)  # the same numbers
wide = mx.sort(gate(x.astype(mx.float32))[0], axis=-1)
print(f"{(narrow != wide).any(axis=-1).sum().item()} of 1000 tokens go to other experts")
