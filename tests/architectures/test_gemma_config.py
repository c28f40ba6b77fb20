"""Published configs of Gemma 1 to 3 and what they say, and what of a config is refused."""

import re
from pathlib import Path
from typing import Any

import pytest

from bessemer.architectures.config import AttentionConfig, ConfigError, ModelConfig, Rope
from bessemer.architectures.feed_forward_config import MlpConfig
from bessemer.architectures.registry import configure
from bessemer.engine.model import load

from .parity import difference, tiny
from .steps import prefill
from .tiny import Tiny, prompts

COMMON: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "head_dim": 256,
    "initializer_range": 0.02,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "use_cache": True,
}
GEMMA_2B = COMMON | {
    "architectures": ["GemmaForCausalLM"],
    "hidden_act": "gelu",
    "hidden_activation": None,
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "max_position_embeddings": 8192,
    "model_type": "gemma",
    "num_attention_heads": 8,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "vocab_size": 256000,
}
GEMMA_2_27B = COMMON | {
    "architectures": ["Gemma2ForCausalLM"],
    "attn_logit_softcapping": 50.0,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": 30.0,
    "head_dim": 128,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 4608,
    "intermediate_size": 36864,
    "max_position_embeddings": 8192,
    "model_type": "gemma2",
    "num_attention_heads": 32,
    "num_hidden_layers": 46,
    "num_key_value_heads": 16,
    "query_pre_attn_scalar": 144,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "sliding_window_size": 4096,
    "vocab_size": 256000,
}
GEMMA_3_1B = COMMON | {
    "architectures": ["Gemma3ForCausalLM"],
    "attn_logit_softcapping": None,
    "cache_implementation": "hybrid",
    "eos_token_id": [1, 106],
    "final_logit_softcapping": None,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size": 262144,
}
EMBEDDING = GEMMA_3_1B | {
    "_sliding_window_pattern": 6,
    "architectures": ["Gemma3TextModel"],
    "hidden_size": 768,
    "intermediate_size": 1152,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 4,
    "max_position_embeddings": 2048,
    "num_attention_heads": 3,
    "num_hidden_layers": 24,
    "use_bidirectional_attention": True,
}
del EMBEDDING["sliding_window_pattern"]
GEMMA_3_27B: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
        "head_dim": 128,
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "model_type": "gemma3_text",
        "num_attention_heads": 32,
        "num_hidden_layers": 62,
        "num_key_value_heads": 16,
        "query_pre_attn_scalar": 168,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "vision_use_head": False,
    },
}


def mixers(config: ModelConfig) -> list[AttentionConfig]:
    return [block.mixer for block in config.blocks if isinstance(block.mixer, AttentionConfig)]


def test_gelu_of_the_first_release_is_the_tanh_form() -> None:
    config = configure(GEMMA_2B)
    assert config.tied and config.embed_scale == 2048**0.5
    feed_forward = config.blocks[0].feed_forward
    assert isinstance(feed_forward, MlpConfig) and feed_forward.activation == "gelu_tanh"
    assert {(m.kv_heads, m.scale, m.window) for m in mixers(config)} == {(1, 1 / 16, None)}


def test_gemma_2_alternates() -> None:
    config = configure(GEMMA_2_27B)
    layers = mixers(config)
    assert [m.window for m in layers] == [4096, None] * 23
    assert {(m.scale, m.softcap) for m in layers} == {(1 / 12, 50.0)}
    assert config.logit_softcap == 30.0


def test_gemma_3_turns_layers_with_a_window_more_slowly() -> None:
    layers = mixers(configure(GEMMA_3_1B))
    assert [m.window for m in layers] == ([512] * 5 + [None]) * 4 + [512] * 2
    near, far = Rope(256, 10_000.0), Rope(256, 1_000_000.0)
    assert [m.rope for m in layers] == ([near] * 5 + [far]) * 4 + [near] * 2


def test_a_config_within_another_leaves_defaults_out() -> None:
    config = configure(GEMMA_3_27B)
    layers = mixers(config)
    assert (config.layers, config.context, config.vocab_size) == (62, 131_072, 262_208)
    assert (config.tied, config.model_type) == (True, "gemma3")
    assert layers[5].rope == Rope(128, 1_000_000.0, "linear", 8.0)
    assert (layers[0].rope, layers[0].window) == (Rope(128, 10_000.0), 1024)
    assert {m.scale for m in layers} == {168**-0.5}
    nested = {"text_config": {"hidden_size": 2560}, "model_type": "gemma3"}
    assert {(m.heads, m.kv_heads, m.head_dim) for m in mixers(configure(nested))} == {(8, 4, 256)}


def test_sets_of_rotary_values_mean_what_the_older_spelling_means() -> None:
    older = {"rope_theta", "rope_scaling", "rope_local_base_freq"}
    text = GEMMA_3_27B["text_config"]
    newer = {name: value for name, value in text.items() if name not in older} | {
        "rope_parameters": {
            "full_attention": {"factor": 8.0, "rope_type": "linear", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default"},
        }
    }
    assert configure(GEMMA_3_27B | {"text_config": newer}) == configure(GEMMA_3_27B)


def test_a_model_that_embeds_is_read_but_does_not_write(tmp_path: Path) -> None:
    config = configure(EMBEDDING)
    assert config.bidirectional
    assert [m.window for m in mixers(config)] == ([257] * 5 + [None]) * 4
    model = tiny("gemma3_text_older", {"use_bidirectional_attention": True})
    with pytest.raises(ConfigError, match="embeds texts"):
        load(model.write(tmp_path))


REFUSED: list[tuple[dict[str, Any], str]] = [
    (GEMMA_2B | {"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
    (GEMMA_2B | {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
    (GEMMA_2_27B | {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
    (GEMMA_2_27B | {"layer_types": ["full_attention"]}, "layer_types is ['full_attention']"),
    (GEMMA_2_27B | {"query_pre_attn_scalar": -1}, "query_pre_attn_scalar is -1"),
    (GEMMA_3_1B | {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
    (GEMMA_3_1B | {"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters is"),
    (GEMMA_3_1B | {"sliding_window_pattern": 0}, "sliding_window_pattern is 0"),
    (GEMMA_3_27B | {"text_config": {"head_dim": 15}}, "text_config."),
    (GEMMA_3_27B | {"text_config": {"surprise": 1}}, "text_config.surprise is 1"),
]


@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_refusals_name_the_field(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure(config)
    assert message in str(caught.value)


# As transformers 5 has them in memory, and without what is around the text.
SPELLINGS = {
    "gemma3_odd_untied": [
        (r"^language_model\.lm_head", "lm_head"),
        (r"^language_model\.model", "model.language_model"),
        (r"^(vision_tower|multi_modal_projector)", r"model.\1"),
    ],
    "gemma3_text_older": [(r"^model\.", "")],
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_other_names_of_tensors_lead_to_the_same_weights(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    renamed = {}
    for tensor, array in model.tensors.items():
        for pattern, into in SPELLINGS[name]:
            tensor = re.sub(pattern, into, tensor)
        renamed[tensor] = array
    assert not set(renamed) & set(model.tensors)
    other = load(Tiny(model.config, renamed).write(tmp_path))
    assert difference(name, [prefill(other, prompts()[0])]) <= 2e-4
