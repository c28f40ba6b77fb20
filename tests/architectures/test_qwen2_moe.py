"""Qwen 2 with experts against transformers, and quantized against mlx_lm."""

from typing import Any

from bessemer.architectures.config import AttentionConfig, BlockConfig, Rope
from bessemer.architectures.feed_forward_config import MlpConfig, MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

FULL, SLIDING = "full_attention", "sliding_attention"
QWEN2_MOE = BASE | {
    "model_type": "qwen2_moe",
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 64,
    "norm_topk_prob": False,
    "mlp_only_layers": [],
    "decoder_sparse_step": 1,
}


class TestQwen2Moe(Parity):
    family = "qwen2_moe"
    cases = {
        "shared": Case(
            QWEN2_MOE | {"moe_intermediate_size": 40, "shared_expert_intermediate_size": 72},
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "norm_topk_prob": True,
                "num_experts_per_tok": 3,
            },
        ),
        "one_expert_some_dense_windows": Case(
            QWEN2_MOE
            | {
                "hidden_size": 48,
                "num_hidden_layers": 4,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "num_experts": 3,
                "num_experts_per_tok": 1,
                "mlp_only_layers": [3],
                "decoder_sparse_step": 2,
                "qkv_bias": False,
                "use_sliding_window": True,
                "sliding_window": 20,
                "max_window_layers": 2,
                "tie_word_embeddings": True,
            },
            {
                "norm_topk_prob": True,
                "use_sliding_window": False,
                "sliding_window": 21,
                "max_window_layers": 3,
                "layer_types": [FULL, FULL, SLIDING, SLIDING],
            },
        ),
        "affine": Case(
            QWEN2_MOE
            | {
                "quantization": {
                    "group_size": 32,
                    "bits": 4,
                    "model.layers.0.mlp.gate": {"group_size": 64, "bits": 8},
                    "model.layers.0.mlp.shared_expert_gate": {"group_size": 64, "bits": 8},
                    "model.layers.1.mlp.shared_expert.down_proj": {"group_size": 64, "bits": 6},
                }
            },
            {"rms_norm_eps": 0.01, "rope_theta": 1300.0, "norm_topk_prob": True},
            source="mlx_lm",
        ),
        # Gates stored in another way than what they let through, of experts and of shared ones.
        "affine_mixed": Case(
            QWEN2_MOE
            | {
                "quantization": {
                    "group_size": 32,
                    "bits": 4,
                    "model.layers.0.mlp.switch_mlp.gate_proj": {"group_size": 64, "bits": 6},
                    "model.layers.0.mlp.shared_expert.up_proj": {"group_size": 64, "bits": 8},
                    "model.layers.1.mlp.switch_mlp.up_proj": False,
                    "model.layers.1.mlp.switch_mlp.down_proj": {"group_size": 32, "bits": 8},
                    "model.layers.1.mlp.shared_expert.gate_proj": False,
                }
            },
            {"rms_norm_eps": 0.01, "norm_topk_prob": True},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # Qwen/Qwen1.5-MoE-A2.7B-Chat
    "architectures": ["Qwen2MoeForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "decoder_sparse_step": 1,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 5632,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2_moe",
    "moe_intermediate_size": 1408,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts": 60,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 16,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 5632,
    "sliding_window": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.39.0.dev0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    experts = MoeConfig(
        60, 4, 1408, normalise=False, shared_width=5632, shared_gate=True, shared="shared_expert"
    )
    mixer = AttentionConfig(16, 16, 128, 128**-0.5, Rope(128, 1e6), bias=True)
    assert config.blocks == (BlockConfig(mixer, experts),) * 24


def test_dense_layers_are_of_their_own_width() -> None:
    config = configure(PUBLISHED | {"mlp_only_layers": [0, 23], "intermediate_size": 20480})
    assert [i for i, b in enumerate(config.blocks) if b.feed_forward == MlpConfig(20480)] == [0, 23]


def test_defaults_are_those_of_transformers() -> None:
    left = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob")
    left += ("shared_expert_intermediate_size", "intermediate_size", "decoder_sparse_step")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
