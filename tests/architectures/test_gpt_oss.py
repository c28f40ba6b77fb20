"""gpt-oss against transformers, dense and in OpenAI's blocks, and MLX's MXFP4 against mlx_lm."""

import pytest

from bessemer.architectures.config import AttentionConfig, ConfigError
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

FULL, SLIDING = "full_attention", "sliding_attention"
GPT_OSS = BASE | {
    "model_type": "gpt_oss",
    "head_dim": 24,
    "num_hidden_layers": 3,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "intermediate_size": 32,
    "sliding_window": 20,
    "swiglu_limit": 1.5,
    "pad_token_id": 0,
    "rope_scaling": YARN | {"truncate": False},
}
ODD = GPT_OSS | {
    "hidden_size": 48,
    "num_attention_heads": 6,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "num_hidden_layers": 2,
    "num_experts_per_tok": 1,
    "attention_bias": False,
    "tie_word_embeddings": True,
    "layer_types": [FULL, SLIDING],
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
del ODD["rope_scaling"], ODD["rope_theta"], ODD["swiglu_limit"]
QUANTIZED = {"group_size": 32, "bits": 4, "mode": "affine"}
MXFP4 = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
SMALL = GPT_OSS | {"num_hidden_layers": 2, "head_dim": 32, "rope_scaling": None}
PLAIN = SMALL | {"rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}

PUBLISHED = {  # openai/gpt-oss-20b
    "architectures": ["GptOssForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "eos_token_id": 200002,
    "experts_per_token": 4,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2880,
    "initial_context_length": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 2880,
    "layer_types": [SLIDING, FULL] * 12,
    "max_position_embeddings": 131072,
    "model_type": "gpt_oss",
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "output_router_logits": False,
    "pad_token_id": 199999,
    "quantization_config": {
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
        "quant_method": "mxfp4",
    },
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False,
    },
    "rope_theta": 150000,
    "router_aux_loss_coef": 0.9,
    "sliding_window": 128,
    "swiglu_limit": 7.0,
    "tie_word_embeddings": False,
    "transformers_version": "4.55.0.dev0",
    "use_cache": True,
    "vocab_size": 201088,
}


class TestGptOss(Parity):
    family = "gpt_oss"
    cases = {
        "yarn": Case(
            GPT_OSS,
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "rope_scaling": None,
                "rope_scaling.factor": 8.0,
                "rope_scaling.truncate": True,
                "sliding_window": 30,
                "swiglu_limit": 1.0,
                "num_experts_per_tok": 3,
                "layer_types": [FULL, SLIDING, SLIDING],
            },
        ),
        "odd": Case(
            ODD,
            {
                "rms_norm_eps": 0.01,
                "rope_parameters": None,
                "rope_parameters.rope_theta": 700.0,
                "sliding_window": 10,
                "layer_types": [SLIDING, FULL],
            },
        ),
        "blocks": Case(
            SMALL
            | {
                "rope_scaling": YARN | {"truncate": False},
                "quantization_config": {"quant_method": "mxfp4", "dequantize": True},
            }
        ),
        "mxfp4": Case(PLAIN | {"quantization": MXFP4, "swiglu_limit": 7.0}, source="mlx_lm"),
        "mixed": Case(
            PLAIN
            | {
                "swiglu_limit": 7.0,
                "quantization": QUANTIZED
                | {
                    f"model.layers.{layer}.mlp.experts.{part}": MXFP4
                    for layer in range(2)
                    for part in ("gate_proj", "up_proj", "down_proj")
                }
                | {
                    f"model.layers.{layer}.mlp.router": {"group_size": 64, "bits": 8}
                    for layer in range(2)
                },
            },
            source="mlx_lm",
        ),
    }


def test_the_published_config_is_understood() -> None:
    config = configure(PUBLISHED)
    assert config.windows == (None, 128)
    assert config.quantization.method == "mxfp4"
    first, second = config.blocks[:2]
    assert isinstance(first.mixer, AttentionConfig) and isinstance(second.mixer, AttentionConfig)
    assert (first.mixer.window, second.mixer.window) == (128, None)
    assert isinstance(first.feed_forward, MoeConfig)
    assert first.feed_forward.limit == 7
    assert first.mixer.rope is not None and not first.mixer.rope.truncate
    bare = {name: value for name, value in PUBLISHED.items() if not name.startswith("rope")}
    assert configure(bare).ropes == config.ropes


def test_another_gain_of_the_activation_is_refused() -> None:
    with pytest.raises(ConfigError, match="swiglu_alpha"):
        configure(PUBLISHED | {"swiglu_alpha": 1.5})
