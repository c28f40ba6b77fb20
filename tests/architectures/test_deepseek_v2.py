"""DeepSeek V2 against transformers and mlx_lm."""

from bessemer.architectures.config import LatentConfig
from bessemer.architectures.feed_forward_config import MlpConfig, MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case, Config

SCALED = {
    "type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.7,
    "mscale_all_dim": 1.2,
}
LITE = BASE | {
    "model_type": "deepseek_v2",
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "q_lora_rank": None,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 20,
    "moe_intermediate_size": 24,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.5,
    "topk_method": "greedy",
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": False,
    "rope_scaling": SCALED,
}
GROUPED = LITE | {
    "hidden_size": 48,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "q_lora_rank": 20,
    "first_k_dense_replace": 0,
    "n_shared_experts": 1,
    "num_experts_per_tok": 1,
    "topk_method": "group_limited_greedy",
    "n_group": 4,
    "topk_group": 2,
    "attention_bias": True,
    "tie_word_embeddings": True,
    "routed_scaling_factor": 4.0,
    "rope_scaling": None,
}
WIDE = LITE | {
    "hidden_size": 128,
    "q_lora_rank": 64,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "moe_intermediate_size": 64,
    "moe_layer_freq": 2,
    "num_experts_per_tok": 4,
    "topk_method": "group_limited_greedy",
    "n_group": 4,
    "topk_group": 2,
    "quantization": {"group_size": 32, "bits": 4},
}
# deepseek-ai/DeepSeek-V2-Lite-Chat
PUBLISHED: Config = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV2Config"},
    "aux_loss_alpha": 0.001,
    "bos_token_id": 100000,
    "eos_token_id": 100001,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 10944,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v2",
    "moe_intermediate_size": 1408,
    "moe_layer_freq": 1,
    "n_group": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 27,
    "num_key_value_heads": 16,
    "pretraining_tp": 1,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "greedy",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.33.1",
    "use_cache": True,
    "v_head_dim": 128,
    "vocab_size": 102400,
}


class TestDeepseekV2(Parity):
    family = "deepseek_v2"
    cases = {
        "lite_yarn": Case(
            LITE,
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "rope_scaling": None,
                "rope_scaling.factor": 5.0,
                "rope_scaling.original_max_position_embeddings": 30,
                "rope_scaling.beta_fast": 1,
                "rope_scaling.beta_slow": 0.1,
                "rope_scaling.mscale": 1.0,
                "rope_scaling.mscale_all_dim": 1.0,
                "routed_scaling_factor": 1.2,
                "num_experts_per_tok": 2,
                "hidden_act": "gelu",
            },
        ),
        "one_expert_of_groups_biased_tied": Case(
            GROUPED,
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "routed_scaling_factor": 3.0,
                "num_experts_per_tok": 2,
                "rope_scaling": SCALED,
            },
        ),
        "three_experts_of_groups": Case(
            GROUPED
            | {"num_experts_per_tok": 3, "n_shared_experts": 2, "max_position_embeddings": 90},
            {"topk_method": "greedy", "n_group": 2, "topk_group": 3},
        ),
        "affine": Case(WIDE, {"rope_scaling.mscale_all_dim": 1.0, "topk_group": 3}, "mlx_lm"),
    }

    def test_a_published_config(self) -> None:
        config = configure(PUBLISHED)
        mixer, dense = config.blocks[0].mixer, config.blocks[0].feed_forward
        sparse = config.blocks[1].feed_forward
        assert isinstance(mixer, LatentConfig) and not mixer.query_rank
        assert abs(mixer.scale - 192**-0.5 * 1.2608**2) < 1e-5
        assert mixer.rope.attention_factor == 1 and mixer.cache.head_dim == 576
        assert isinstance(dense, MlpConfig) and dense.width == 10944
        assert isinstance(sparse, MoeConfig)
        assert (sparse.shared_width, sparse.groups, sparse.normalise) == (2816, 1, False)
