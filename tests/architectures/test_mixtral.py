"""Mixtral against transformers, and quantized against mlx_lm."""

from typing import Any

from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

MIXTRAL = BASE | {"model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2}


class TestMixtral(Parity):
    family = "mixtral"
    cases = {
        "window": Case(
            MIXTRAL | {"sliding_window": 20, "router_jitter_noise": 0.1},
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "sliding_window": 21,
                "num_experts_per_tok": 3,
            },
        ),
        "one_expert_wide_head_tied": Case(
            MIXTRAL
            | {
                "hidden_size": 48,
                "head_dim": 20,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "intermediate_size": 40,
                "num_local_experts": 3,
                "num_experts_per_tok": 1,
                "tie_word_embeddings": True,
            },
            {"rms_norm_eps": 0.01, "num_experts_per_tok": 2},
        ),
        "affine": Case(
            MIXTRAL
            | {
                "quantization": {
                    "group_size": 32,
                    "bits": 4,
                    "model.layers.0.block_sparse_moe.gate": {"group_size": 64, "bits": 8},
                }
            },
            {"rms_norm_eps": 0.01, "rope_theta": 1300.0, "num_experts_per_tok": 1},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # mistralai/Mixtral-8x7B-Instruct-v0.1
    "architectures": ["MixtralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mixtral",
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.36.0.dev0",
    "use_cache": True,
    "vocab_size": 32000,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    assert {block.feed_forward for block in config.blocks} == {MoeConfig(8, 2, 14336)}
    assert (config.windows, config.norm.eps) == ((None,), 1e-5)


def test_defaults_are_those_of_transformers() -> None:
    left = ("num_local_experts", "num_experts_per_tok", "rope_theta", "rms_norm_eps")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
