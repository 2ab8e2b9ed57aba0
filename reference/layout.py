"""The tensors of a released checkpoint: their names and shapes, as a configuration says.

Letters: D hidden size, H heads, K head dim, L latent rank, N nope dims, R rotary dims, V value dim,
E experts, I hidden channels of an expert.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import Tensor

from lingspec.reference.config import LingConfig

__all__ = [
    "FLOAT32",
    "CheckpointError",
    "check",
    "check_names",
    "finite",
    "layer_tensors",
    "some",
    "tensors",
]

Tensors = Iterator[tuple[str, tuple[int, ...]]]
SHOWN = 3  # names in an error
FLOAT32 = (".expert_bias",)  # endings of names whose tensors are float32 in a bf16 checkpoint


class CheckpointError(ValueError):
    """Weights that are not what their configuration says, or that cannot be read."""


def check(config: LingConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare names and shapes with those of a configuration.

    Raises:
        CheckpointError: some are missing, unknown or misshapen.
    """
    names = dict(tensors(config))
    check_names(names, shapes)
    wrong = [
        f"{name} has shape {tuple(shapes[name])}, but must have {want}"
        for name, want in names.items() if tuple(shapes[name]) != want
    ]  # fmt: skip
    if wrong:
        raise CheckpointError(some(wrong, "; "))


def check_names(wanted: Collection[str], there: Collection[str]) -> None:
    """Compare names.

    Raises:
        CheckpointError: some are missing or unknown.
    """
    missing, extra = ([n for n in a if n not in b] for a, b in ((wanted, there), (there, wanted)))
    for what, these in (("lacks", missing), ("has unknown", extra)):
        if these:
            raise CheckpointError(f"the checkpoint {what} {some(these)}")


def finite(name: str, x: Tensor, rows: Sequence[int] | None = None) -> Tensor:
    """``x``, all of whose numbers are finite; ``rows`` of the tensor, where it is not all of it.

    Raises:
        CheckpointError: one is not.
    """
    if not bool(x.isfinite().all()):
        first, *rest = (~x.isfinite()).nonzero()[0].tolist()
        value, row = float(x[(first, *rest)]), first if rows is None else rows[first]
        raise CheckpointError(f"{name}{[row, *rest]} is {value}, but must be finite")
    return x


def some(names: list[str], between: str = ", ") -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return between.join(names[:SHOWN]) + more


def tensors(config: LingConfig) -> Tensors:
    """Every tensor: (name, shape), embedding first, then layer by layer, MTP layers last.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py.
    """
    D, vocabulary = config.hidden_size, config.vocab_size
    yield "model.word_embeddings.weight", (vocabulary, D)
    for layer in range(config.num_hidden_layers):
        yield from layer_tensors(config, layer)
    yield "model.norm.weight", (D,)
    if not config.tie_word_embeddings:
        yield "lm_head.weight", (vocabulary, D)
    for n in range(config.num_nextn_predict_layers):
        yield from layer_tensors(config, config.num_hidden_layers + n)


def layer_tensors(config: LingConfig, layer: int) -> Tensors:
    """The tensors of one layer; of an MTP layer from ``num_hidden_layers`` on."""
    name, D = f"model.layers.{layer}", config.hidden_size
    if layer >= config.num_hidden_layers:
        yield f"{name}.enorm.weight", (D,)
        yield f"{name}.hnorm.weight", (D,)
        yield f"{name}.eh_proj.weight", (D, 2 * D)
        yield f"{name}.final_layernorm.weight", (D,)
    yield f"{name}.input_layernorm.weight", (D,)
    attention = _mla if config.is_mla(layer) else _lightning
    yield from attention(config, f"{name}.attention")
    yield f"{name}.post_attention_layernorm.weight", (D,)
    if config.is_moe(layer):
        yield from _moe(config, f"{name}.mlp")
    else:
        yield from _mlp(f"{name}.mlp", D, config.intermediate_size)


def _lightning(config: LingConfig, name: str) -> Tensors:
    D, K = config.hidden_size, config.head_dim
    width = config.num_attention_heads * K
    yield f"{name}.query_key_value.weight", (3 * width, D)  # all heads of q, then of k, then of v
    if config.use_qkv_bias:
        yield f"{name}.query_key_value.bias", (3 * width,)
    if config.use_qk_norm:
        yield f"{name}.query_layernorm.weight", (K,)
        yield f"{name}.key_layernorm.weight", (K,)
    yield f"{name}.g_proj.weight", (width, D)
    yield f"{name}.g_norm.weight", (width,)
    yield from _dense(config, name, width, bias=config.use_bias)


def _mla(config: LingConfig, name: str) -> Tensors:
    D, H, L = config.hidden_size, config.num_attention_heads, config.kv_lora_rank
    N, R, V = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    rank = config.q_lora_rank
    if rank is None:
        yield f"{name}.q_proj.weight", (H * (N + R), D)
    else:
        yield f"{name}.q_a_proj.weight", (rank, D)
        if config.use_qkv_bias:
            yield f"{name}.q_a_proj.bias", (rank,)
        yield f"{name}.q_a_layernorm.weight", (rank,)
        yield f"{name}.q_b_proj.weight", (H * (N + R), rank)
    yield f"{name}.kv_a_proj_with_mqa.weight", (L + R, D)
    if config.use_qkv_bias:
        yield f"{name}.kv_a_proj_with_mqa.bias", (L + R,)
    yield f"{name}.kv_a_layernorm.weight", (L,)
    yield f"{name}.kv_b_proj.weight", (H * (N + V), L)  # per head: N rows of keys, V of values
    # The released code gives this one the bias of the projections to q, k and v (line 621).
    yield from _dense(config, name, H * V, bias=config.use_qkv_bias)


def _dense(config: LingConfig, name: str, width: int, *, bias: bool) -> Tensors:
    yield f"{name}.dense.weight", (config.hidden_size, width)
    if bias:
        yield f"{name}.dense.bias", (config.hidden_size,)


def _moe(config: LingConfig, name: str) -> Tensors:
    D, E, I = config.hidden_size, config.num_experts, config.moe_intermediate_size  # noqa: E741 - the letter of the ops
    yield f"{name}.gate.weight", (E, D)
    yield f"{name}.gate.expert_bias", (E,)
    for e in range(E):
        yield from _mlp(f"{name}.experts.{e}", D, I)
    if config.num_shared_experts:
        yield from _mlp(f"{name}.shared_experts", D, I * config.num_shared_experts)


def _mlp(name: str, D: int, hidden: int) -> Tensors:
    yield f"{name}.gate_proj.weight", (hidden, D)
    yield f"{name}.up_proj.weight", (hidden, D)
    yield f"{name}.down_proj.weight", (D, hidden)
