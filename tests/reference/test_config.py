"""LingConfig: what is read, what is derived, what is refused."""

import dataclasses
import json

import pytest

from lingspec.reference import ConfigError, LingConfig
from lingspec.reference.config import IGNORED, PRESETS

ONE_T = LingConfig.preset("ling-2.5-1t")
TOLD = {"architectures": ["BailingMoeV2_5ForCausalLM"], "model_type": "bailing_hybrid"}


def changed(**changes):
    known = {f.name: getattr(ONE_T, f.name) for f in dataclasses.fields(ONE_T)}
    return {**TOLD, **known, "decay_layer_origin": 1, **changes}


@pytest.mark.statement("MODEL-4", "MODEL-5")
def test_seven_lightning_layers_stand_before_one_of_mla():
    assert [i for i in range(80) if ONE_T.is_mla(i)] == [7, 15, 23, 31, 39, 47, 55, 63, 71, 79]
    assert [i for i in range(80) if not ONE_T.is_moe(i)] == [0, 1, 2, 3]


@pytest.mark.statement("MODEL-4", "MTP-3")
def test_layers_behind_the_last_whole_group_and_mtp_layers_are_mla():
    config = dataclasses.replace(ONE_T, num_hidden_layers=10, layer_group_size=4)
    assert [i for i in range(12) if config.is_mla(i)] == [3, 7, 8, 9, 10, 11]


@pytest.mark.statement("CONF-9")
@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_made(name):
    assert LingConfig.preset(name).rotary_dim == 64


@pytest.mark.statement("MLA-12", "CONF-8")
def test_the_scale_of_mla_is_that_of_both_parts_and_of_yarn():
    assert ONE_T.mla_scale == 192**-0.5
    yarn = {"rope_type": "yarn", "factor": 4.0, "mscale_all_dim": 1.0}
    for told in (yarn, {**yarn, "original_max_position_embeddings": None}):
        config = dataclasses.replace(ONE_T, rope_scaling=told)
        assert config.mla_scale == pytest.approx(192**-0.5 * 1.1386294361119891**2, rel=1e-15)
        assert config.rope_scaling["original_max_position_embeddings"] == 131072


@pytest.mark.statement("CONF-1", "CONF-2")
def test_a_file_is_read_and_its_silence_filled_as_in_the_released_class(tmp_path):
    file = tmp_path / "config.json"
    told = {**TOLD, "num_key_value_heads": 16, "torch_dtype": "float32", "rope_interleave": True}
    file.write_text(json.dumps(told))
    config = LingConfig.from_json(file)
    assert (config.num_hidden_layers, config.dtype, config.decay_layer_origin) == (20, "float32", 1)


REFUSED = [
    ({"architectures": ["LlamaForCausalLM"]}, "must hold 'BailingMoeV2_5ForCausalLM'"),
    ({"architectures": None}, "architectures is missing"),
    ({"architectures": ["BailingMoeV3ForCausalLM"]}, "this is Ling 3.0"),
    ({"kda_head_dim": 128}, "this is Ling 3.0"),
    ({"heads": 4}, "unknown key 'heads' = 4"),
    ({"hidden_act": "gelu"}, "hidden_act is 'gelu', but must be 'silu'"),
    ({"norm_topk_prob": False}, "norm_topk_prob is False"),
    ({"linear_silu": True}, "linear_silu is True"),
    ({"rope_interleave": False}, "rope_interleave is False"),
    ({"num_key_value_heads": 8}, "num_key_value_heads is 8, but must be 64"),
    ({"qk_rope_head_dim": 32}, "qk_rope_head_dim is 32, but must be 64"),
    ({"group_norm_size": 7}, "group_norm_size is 7, but must be a divisor of 8192"),
    ({"n_group": 7}, "n_group is 7, but must be a divisor of 256"),
    ({"topk_group": 9}, "topk_group is 9, but must be at most 8"),
    ({"num_experts_per_tok": 129}, "num_experts_per_tok is 129, but must be at most 128"),
    ({"num_hidden_layers": 1}, "num_hidden_layers is 1, but must be at least 2"),
    ({"first_k_dense_replace": 81}, "first_k_dense_replace is 81"),
    ({"hidden_size": "8192"}, "hidden_size is '8192', but must be int"),
    ({"use_qk_norm": 1}, "use_qk_norm is 1, but must be bool"),
    ({"vocab_size": True}, "vocab_size is True, but must be int"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type is 'linear'"),
    ({"rope_scaling": {"type": "yarn", "factor": 2.0, "beta": 1}}, "rope_scaling is ['beta']"),
    ({"rope_scaling": {"type": "yarn", "factor": 0.5}}, "factor is 0.5, but must be a number >= 1"),
    ({"rope_scaling": {"type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "rope_theta is 10000.0"),
    ({"decay_layer_origin": 2}, "decay_layer_origin is 2, but must be 0 or 1"),
    ({"rms_norm_eps": 0.0}, "rms_norm_eps is 0.0"),
]


@pytest.mark.statement("CONF-3", "CONF-4", "CONF-6", "CONF-7", "CONF-8")
@pytest.mark.parametrize(("changes", "text"), REFUSED, ids=lambda x: str(x)[:40])
def test_another_model_and_a_contradiction_are_refused(changes, text):
    with pytest.raises(ConfigError) as refused:
        LingConfig.from_dict(changed(**changes))
    assert text in str(refused.value)


@pytest.mark.statement("CONF-3")
@pytest.mark.parametrize("content", ["", "{", "[]", b"\xff\xfe"])
def test_a_broken_file_is_named(tmp_path, content):
    file = tmp_path / "config.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"config\.json"):
        LingConfig.from_json(file)


@pytest.mark.statement("CONF-9")
def test_an_unknown_preset_names_the_known():
    with pytest.raises(ConfigError, match=r"no preset 'ling-3'; there are ling-2\.5-1t"):
        LingConfig.preset("ling-3")


@pytest.mark.statement("CONF-14")
def test_what_the_released_class_saves_is_read():
    """Its own arguments, those that say a thing twice, and a head_dim that it derives."""
    told = {
        **LingConfig.preset("ling-2.5-1t").to_dict(), "scoring_func": "sigmoid", "seq_aux": True,
        "qk_head_dim": 192, "mtp_loss_scaling_factor": 0, "max_window_layers": 20,
        "output_router_logits": False, "use_cache": True, "head_dim": None,
    }  # fmt: skip
    assert LingConfig.from_dict(told) == LingConfig.preset("ling-2.5-1t")
    assert LingConfig.from_dict({**told, "num_shared_experts": None}).num_shared_experts == 0
    for key, value, text in (
        ("qk_head_dim", 128, "qk_head_dim is 128, but must be 192"),
        ("scoring_func", "softmax", "scoring_func is 'softmax', but must be 'sigmoid'"),
        ("num_attention_heads", "64", "num_attention_heads is '64', but must be an integer"),
    ):
        with pytest.raises(ConfigError, match=text):
            LingConfig.from_dict({**told, key: value})


@pytest.mark.statement("CONF-15")
@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("origin", [0, 1])
def test_a_configuration_is_what_its_own_keys_say(name, origin):
    config = dataclasses.replace(LingConfig.preset(name), decay_layer_origin=origin)
    assert LingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.statement("CONF-5")
@pytest.mark.parametrize("key", sorted({*IGNORED} - {"architectures", "model_type"}))
def test_a_key_that_says_nothing_of_what_is_computed_changes_nothing(key):
    assert LingConfig.from_dict(changed(**{key: 7})) == LingConfig.from_dict(changed())


@pytest.mark.statement("CONF-2")
def test_the_origin_of_the_decay_is_1_unless_it_is_set():
    assert all(LingConfig.preset(name).decay_layer_origin == 1 for name in PRESETS)
    assert LingConfig.from_dict(changed(decay_layer_origin=0)).decay_layer_origin == 0


# configuration_bailing_moe_v2_5.py of inclusionAI/Ling-V2.5 @79c5ec5.
RELEASED_DEFAULTS = {
    "vocab_size": 157184, "hidden_size": 2048, "intermediate_size": 5120, "num_hidden_layers": 20,
    "num_attention_heads": 16, "num_key_value_heads": 4, "use_qkv_bias": False, "use_bias": False,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "max_position_embeddings": 32768,
    "rope_theta": 600000.0, "rope_scaling": None, "pad_token_id": 156892, "eos_token_id": 156892,
    "num_experts": 256, "num_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8,
    "topk_group": 4, "moe_intermediate_size": 512, "first_k_dense_replace": 1, "head_dim": 128,
    "use_qk_norm": True, "num_nextn_predict_layers": 0, "routed_scaling_factor": 1.0,
    "layer_group_size": 5, "group_norm_size": 4, "kv_lora_rank": 512, "q_lora_rank": None,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
    "partial_rotary_factor": 0.5,
}  # fmt: skip


@pytest.mark.statement("CONF-1")
def test_silence_means_the_defaults_of_the_released_class():
    defaults = {f.name: f.default for f in dataclasses.fields(LingConfig)}
    own = {"decay_layer_origin": 1, "dtype": "bfloat16"}
    assert defaults == RELEASED_DEFAULTS | own


YARN = {"rope_type": "yarn", "factor": 2.0}
NONSENSE = (
    ({"q_lora_rank": 0}, "q_lora_rank is 0"),
    ({"rms_norm_eps": float("inf")}, "rms_norm_eps is inf"),
    ({"routed_scaling_factor": float("nan")}, "routed_scaling_factor is nan"),
    ({"routed_scaling_factor": -1.0}, "routed_scaling_factor is -1.0"),
    ({"partial_rotary_factor": float("nan")}, "partial_rotary_factor is nan"),
    ({"dtype": "banana"}, "dtype is 'banana'"),
    ({"eos_token_id": [True]}, "eos_token_id is"),
    ({"pad_token_id": -1}, "pad_token_id is -1"),
    ({"model_type": "llama"}, "model_type is 'llama'"),
    ({"architectures": 5}, "architectures is 5"),
    ({"architectures": "x"}, "architectures is 'x'"),
    ({"num_hidden_layers": 10**30}, "num_hidden_layers is 1000"),
    ({"rope_scaling": {**YARN, "attention_factor": "1"}}, "rope_scaling.attention_factor is '1'"),
    ({"rope_scaling": {**YARN, "beta_fast": -1}}, "rope_scaling.beta_fast is -1"),
    ({"rope_scaling": {**YARN, "mscale_all_dim": [1]}}, "rope_scaling.mscale_all_dim is [1]"),
    ({"rope_scaling": {**YARN, "truncate": "no"}}, "rope_scaling.truncate is 'no'"),
    ({"rope_scaling": {**YARN, "factor": True}}, "rope_scaling.factor is True"),
)


@pytest.mark.statement("CONF-7")
@pytest.mark.parametrize(("changes", "text"), NONSENSE)
def test_numbers_that_mean_nothing_are_refused(changes, text):
    with pytest.raises(ConfigError) as refused:
        LingConfig.from_dict(changed(**changes))
    assert text in str(refused.value)


@pytest.mark.statement("CONF-3")
def test_what_is_no_configuration_is_refused(tmp_path):
    file = tmp_path / "config.json"
    for content in ("[" * 100_000, '{"vocab_size": ' + "1" * 5000 + "}"):
        file.write_text(content)
        with pytest.raises(ConfigError, match="cannot be read"):
            LingConfig.from_json(file)
    file.write_text('{"hidden_size": 4, "hidden_size": 8}')
    with pytest.raises(ConfigError, match="'hidden_size' stands there twice"):
        LingConfig.from_json(file)
    with pytest.raises(ConfigError, match="dtype is 'bfloat16', but must be 'float32', as torch_d"):
        LingConfig.from_dict(changed(torch_dtype="float32"))
    with pytest.raises(ConfigError, match="a configuration is list"):
        LingConfig.from_dict([1])
    with pytest.raises(ConfigError, match=r"architectures is .*DeepseekV3"):
        LingConfig.from_dict({"architectures": ["DeepseekV3ForCausalLM"]})
