"""Laws of the decoder layer and of the model."""

import pytest
import torch
from drawing import assert_near, normal
from small import SMALL, small, weights

from lingspec.reference import ContractError, LingModel, rms_norm
from lingspec.reference.layers import decoder_layer, lightning_layer, mla_layer
from lingspec.reference.weights import InDtype

IDS = torch.tensor([[5, 9, 7, 3, 1], [8, 2, 2, 90, 4]])
POSITIONS = torch.arange(5).expand(2, 5)


@pytest.mark.statement("MODEL-3", "MODEL-14")
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_a_layer_adds_what_attention_and_mlp_make_of_normalised_inputs(layer):
    config, w = small(rms_norm_eps=0.03)
    x, seen, name = normal(2, 5, 32), {}, f"model.layers.{layer}"
    y = decoder_layer(x, w, config, layer=layer, positions=POSITIONS, tap=seen.__setitem__)
    attention = mla_layer if layer % 2 else lightning_layer
    normed = rms_norm(x, w[f"{name}.input_layernorm.weight"], eps=0.03)
    attended = attention(normed, w, config, layer=layer, positions=POSITIONS)
    assert_near(seen[f"layers.{layer}.attention"], attended)
    assert_near(y, x + attended + seen[f"layers.{layer}.mlp"])
    if layer:
        h = rms_norm(x + attended, w[f"{name}.post_attention_layernorm.weight"], eps=0.03)
        logits = h @ w[f"{name}.mlp.gate.weight"].T
        assert_near(seen[f"layers.{layer}.router_logits"], logits)


@pytest.mark.statement("MODEL-3")
def test_layers_that_write_nothing_leave_the_embedding():
    config, w = small()
    for name, x in w.items():
        if name.endswith((".attention.dense.weight", ".down_proj.weight")):
            x.zero_()
    seen = {}
    LingModel(config, w)(IDS, tap=seen.__setitem__)
    assert torch.equal(seen["layers.4.output"], w["model.word_embeddings.weight"][IDS])


@pytest.mark.statement("MODEL-14")
def test_the_last_norm_has_the_eps_of_the_configuration():
    config, w = small(rms_norm_eps=0.03)
    seen = {}
    LingModel(config, w)(IDS, tap=seen.__setitem__)
    want = rms_norm(seen["layers.4.output"], w["model.norm.weight"], eps=0.03)
    assert torch.equal(seen["final_norm"], want)


@pytest.mark.statement("MODEL-6")
def test_bfloat16_logits_are_rounded_before_they_are_widened():
    seen = {}
    model = LingModel(SMALL, weights(), dtype=torch.bfloat16)
    logits = model(IDS, tap=seen.__setitem__)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())
    head = model.weights["lm_head.weight"]
    exact = seen["final_norm"].double() @ head.double().T
    assert_near(logits.double(), exact, 2**-8)


@pytest.mark.statement("MODEL-7", "CKPT-9")
def test_a_tied_head_is_the_embedding():
    config, w = small(tie_word_embeddings=True)
    assert "lm_head.weight" not in w
    seen = {}
    logits = LingModel(config, w)(IDS, tap=seen.__setitem__)
    assert_near(logits, seen["final_norm"] @ w["model.word_embeddings.weight"].T)
    config, w = small()
    logits = LingModel(config, w)(IDS, tap=seen.__setitem__)
    assert_near(logits, seen["final_norm"] @ w["lm_head.weight"].T)


@pytest.mark.statement("MODEL-8")
def test_a_tap_sees_every_tensor_in_order_and_may_replace_it():
    config, w = small()
    names = []
    LingModel(config, w)(IDS, tap=lambda name, _: names.append(name))
    routing = ["router_logits", "topk_idx", "topk_weight"]
    want = ["embeddings"]
    for layer in range(5):
        of_layer = ["attention", *(routing if layer else []), "mlp", "output"]
        want += [f"layers.{layer}.{part}" for part in of_layer]
    assert names == [*want, "final_norm", "logits"]

    plain = LingModel(config, w)(IDS)
    for name in want:
        if name.endswith("topk_idx"):
            continue  # see MOE-11

        def tap(what, x, name=name):
            return x + 1 if what == name else None

        assert not torch.equal(LingModel(config, w)(IDS, tap=tap), plain), name


@pytest.mark.statement("MODEL-9", "PREC-1")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_can_compute_in_another_dtype_than_its_weights(dtype):
    bias = "model.layers.1.mlp.gate.expert_bias"
    read = InDtype(weights(), dtype)
    assert read["model.norm.weight"].dtype == dtype
    assert read[bias].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    cast = {n: x if n.endswith("bias") else x.to(dtype) for n, x in weights().items()}
    cast = {n: x.double() if dtype == torch.float64 else x for n, x in cast.items()}
    seen = {}
    model = LingModel(SMALL, weights(), dtype=dtype)
    logits = model(IDS, tap=seen.__setitem__)
    assert torch.equal(logits, LingModel(SMALL, cast)(IDS))
    assert seen["layers.0.output"].dtype == dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert logits.dtype == model.new_cache(1).layers[0].state.dtype == wide


@pytest.mark.statement("MODEL-10")
def test_no_logit_depends_on_a_later_token_or_another_row():
    config, w = small()
    model = LingModel(config, w)
    plain = model(IDS)
    other = IDS.clone()
    other[:, 3:] = 11
    assert_near(model(other)[:, :3], plain[:, :3])
    assert not torch.allclose(model(other)[:, 3:], plain[:, 3:])
    assert_near(model(IDS[1:]), plain[1:])


@pytest.mark.statement("MODEL-13", "ROPE-10")
def test_both_attentions_rotate_by_the_positions_that_are_given():
    config, w = small(first_k_dense_replace=5)  # no choice of experts that could flip
    model, x = LingModel(config, w), normal(2, 5, 32)
    spread = POSITIONS * 3
    for layer, attention in ((0, lightning_layer), (1, mla_layer)):
        at = [attention(x, w, config, layer=layer, positions=p) for p in (POSITIONS, spread)]
        assert not torch.allclose(*at)
        shifted = attention(x, w, config, layer=layer, positions=POSITIONS + 100)
        assert_near(shifted, at[0], 1e-11)
    assert torch.equal(model(IDS), model(IDS, POSITIONS))
    assert not torch.allclose(model(IDS), model(IDS, spread))
    assert_near(model(IDS, POSITIONS + 100), model(IDS), 1e-10)


@pytest.mark.statement("MODEL-11")
@pytest.mark.parametrize(
    ("ids", "positions", "text"),
    [
        (torch.tensor([[96]]), None, "input_ids has values [96], but must have integers from 0"),
        (torch.tensor([[-1]]), None, "input_ids has values [-1]"),
        (torch.tensor([5]), None, "input_ids has shape and dtype ((1,), torch.int64)"),
        (torch.tensor([[5.0]]), None, "input_ids has shape and dtype"),
        (torch.tensor([[5]]), torch.tensor([[0, 1]]), "positions has shape (1, 2)"),
        (torch.tensor([[5]]), torch.tensor([[-1]]), "positions has values [[-1]]"),
    ],
)
def test_a_wrong_argument_is_named(ids, positions, text):
    with pytest.raises(ContractError) as refused:
        LingModel(SMALL, weights())(ids, positions)
    assert text in str(refused.value)
