"""StarCoder 2 against transformers, and quantized against mlx_lm."""

from typing import Any

from bessemer.architectures.feed_forward_config import MlpConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

STARCODER2 = BASE | {
    "model_type": "starcoder2",
    "hidden_act": "gelu_pytorch_tanh",
    "norm_epsilon": 0.02,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "tie_word_embeddings": True,
}
del STARCODER2["rms_norm_eps"]


class TestStarcoder2(Parity):
    family = "starcoder2"
    cases = {
        "window_tied": Case(
            STARCODER2 | {"sliding_window": 20},
            {
                "norm_epsilon": 0.01,
                "rope_theta": 1300.0,
                "sliding_window": 21,
                "hidden_act": "silu",
            },
        ),
        "wide_head_unbiased": Case(
            STARCODER2
            | {
                "hidden_size": 48,
                "head_dim": 20,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "hidden_act": "gelu",
                "use_bias": False,
                "tie_word_embeddings": False,
            },
            {"norm_epsilon": 0.01, "rope_theta": 1300.0, "hidden_act": "silu"},
        ),
        "affine": Case(
            STARCODER2
            | {
                "hidden_act": "gelu",  # mlx_lm's only one, whatever the config says
                "quantization": {
                    "group_size": 32,
                    "bits": 4,
                    "model.layers.0.mlp.c_proj": {"group_size": 32, "bits": 8},
                },
            },
            {"norm_epsilon": 0.01, "rope_theta": 1300.0},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # bigcode/starcoder2-3b
    "architectures": ["Starcoder2ForCausalLM"],
    "attention_dropout": 0.1,
    "bos_token_id": 0,
    "embedding_dropout": 0.1,
    "eos_token_id": 0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 3072,
    "initializer_range": 0.018042,
    "intermediate_size": 12288,
    "max_position_embeddings": 16384,
    "mlp_type": "default",
    "model_type": "starcoder2",
    "norm_epsilon": 1e-05,
    "norm_type": "layer_norm",
    "num_attention_heads": 24,
    "num_hidden_layers": 30,
    "num_key_value_heads": 2,
    "residual_dropout": 0.1,
    "rope_theta": 999999.4420358813,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.37.0.dev0",
    "use_bias": True,
    "use_cache": True,
    "vocab_size": 49152,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    wide = MlpConfig(12288, "gelu_tanh", gated=False, bias=True, up="c_fc", down="c_proj")
    assert {block.feed_forward for block in config.blocks} == {wide}
    assert (config.windows, config.tied, config.norm.kind) == ((4096,), True, "layer")


def test_defaults_are_those_of_transformers() -> None:
    left = ("hidden_act", "intermediate_size", "norm_epsilon", "num_key_value_heads", "use_bias")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
