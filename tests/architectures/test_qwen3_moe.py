"""Qwen 3 with experts against transformers, and quantized against mlx_lm."""

from typing import Any

from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

QWEN3_MOE = BASE | {
    "model_type": "qwen3_moe",
    "head_dim": 16,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 40,
    "norm_topk_prob": True,
    "mlp_only_layers": [],
    "decoder_sparse_step": 1,
}


class TestQwen3Moe(Parity):
    family = "qwen3_moe"
    cases = {
        "normalised": Case(
            QWEN3_MOE,
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "norm_topk_prob": False,
                "num_experts_per_tok": 3,
            },
        ),
        "one_expert_some_dense": Case(
            QWEN3_MOE
            | {
                "num_hidden_layers": 4,
                "head_dim": 24,
                "num_key_value_heads": 1,
                "num_experts": 3,
                "num_experts_per_tok": 1,
                "moe_intermediate_size": 32,
                "norm_topk_prob": False,
                "mlp_only_layers": [3],
                "decoder_sparse_step": 2,
                "attention_bias": True,
                "tie_word_embeddings": True,
            },
            {"rms_norm_eps": 0.01, "norm_topk_prob": True, "num_experts_per_tok": 2},
        ),
        "affine": Case(
            QWEN3_MOE
            | {
                "hidden_size": 128,
                "head_dim": 32,
                "num_experts": 4,
                "moe_intermediate_size": 64,
                "max_position_embeddings": 256,
                "quantization": {
                    "group_size": 64,
                    "bits": 4,
                    "model.layers.0.mlp.gate": {"group_size": 64, "bits": 8},
                    "model.layers.1.mlp.gate": {"group_size": 64, "bits": 8},
                },
            },
            {"norm_topk_prob": False, "num_experts_per_tok": 3},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # Qwen/Qwen3-30B-A3B
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "decoder_sparse_step": 1,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    assert {block.feed_forward for block in config.blocks} == {MoeConfig(128, 8, 768)}
    assert not config.tied


def test_the_spelling_of_transformers_5() -> None:
    saved = {name: value for name, value in PUBLISHED.items() if name != "num_experts"}
    assert configure(saved | {"num_local_experts": 128}) == configure(PUBLISHED)
    assert configure(saved | {"num_local_experts": 64}) != configure(PUBLISHED)
