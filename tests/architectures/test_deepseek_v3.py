"""DeepSeek V3 and Kimi K2 against transformers, and quantized against mlx_lm."""

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
    "mscale": 1.2,
    "mscale_all_dim": 1.0,
}
V3 = BASE | {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 20,
    "moe_intermediate_size": 24,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 2.5,
    "n_group": 4,
    "topk_group": 2,
    "norm_topk_prob": True,
    "rope_scaling": SCALED,
}
ODD = V3 | {
    "hidden_size": 48,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "num_hidden_layers": 2,
    "q_lora_rank": None,
    "n_shared_experts": 2,
    "num_experts_per_tok": 1,
    "first_k_dense_replace": 0,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": False,
    "rope_interleave": False,
    "attention_bias": True,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
del ODD["rope_scaling"], ODD["rope_theta"]
WIDE = V3 | {
    "hidden_size": 128,
    "q_lora_rank": 64,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "moe_intermediate_size": 64,
    "moe_layer_freq": 2,
    "n_group": 1,
    "topk_group": 1,
    "quantization": {
        "group_size": 32,
        "bits": 4,
        "model.layers.0.self_attn.embed_q": {"group_size": 32, "bits": 8},
    },
}
# deepseek-ai/DeepSeek-V3
PUBLISHED: Config = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
    "bos_token_id": 0,
    "eos_token_id": 1,
    "ep_size": 1,
    "first_k_dense_replace": 3,
    "hidden_act": "silu",
    "hidden_size": 7168,
    "initializer_range": 0.02,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.33.1",
    "use_cache": True,
    "v_head_dim": 128,
    "vocab_size": 129280,
}
# What moonshotai/Kimi-K2-Instruct has in other values.
KIMI = {
    "model_type": "kimi_k2",
    "architectures": ["DeepseekV3ForCausalLM"],
    "aux_loss_alpha": 0.001,
    "bos_token_id": 163584,
    "eos_token_id": 163585,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 131072,
    "n_group": 1,
    "n_routed_experts": 384,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "num_nextn_predict_layers": 0,
    "pretraining_tp": 1,
    "rope_scaling": PUBLISHED["rope_scaling"] | {"beta_fast": 1.0, "factor": 32.0},
    "rope_theta": 50000.0,
    "routed_scaling_factor": 2.827,
    "seq_aux": True,
    "topk_group": 1,
    "vocab_size": 163840,
}


class TestDeepseekV3(Parity):
    family = "deepseek_v3"
    cases = {
        "groups_yarn": Case(
            V3,
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "rope_interleave": False,
                "rope_scaling": None,
                "rope_scaling.factor": 5.0,
                "rope_scaling.original_max_position_embeddings": 30,
                "rope_scaling.beta_fast": 1,
                "rope_scaling.beta_slow": 0.1,
                "rope_scaling.mscale": 1.0,
                "rope_scaling.mscale_all_dim": 0.8,
                "routed_scaling_factor": 2.0,
                "num_experts_per_tok": 2,
                "norm_topk_prob": False,
                "n_group": 2,
                "topk_group": 1,
                "hidden_act": "gelu",
            },
        ),
        "one_expert_halves_biased_tied": Case(
            ODD,
            {
                "rms_norm_eps": 0.01,
                "rope_interleave": True,
                "rope_parameters.rope_theta": 700.0,
                "routed_scaling_factor": 2.0,
                "norm_topk_prob": True,
                "num_experts_per_tok": 2,
            },
        ),
        "affine": Case(WIDE, {"rope_scaling.mscale": 1.0, "norm_topk_prob": False}, "mlx_lm"),
    }

    def test_a_published_config(self) -> None:
        config = configure(PUBLISHED)
        mixer, dense = config.blocks[2].mixer, config.blocks[2].feed_forward
        sparse = config.blocks[3].feed_forward
        assert isinstance(mixer, LatentConfig) and mixer.interleaved
        assert abs(mixer.scale - 192**-0.5 * 1.36889**2) < 1e-5
        assert isinstance(dense, MlpConfig) and dense.width == 18432
        assert isinstance(sparse, MoeConfig) and sparse.scoring == "sigmoid"
        assert (sparse.groups, sparse.kept_groups, sparse.group_score) == (8, 4, "best_two")
        assert config.quantization.method == "fp8" and config.unused == (r"model\.layers\.61\.",)

    def test_a_published_config_of_kimi(self) -> None:
        config = configure(PUBLISHED | KIMI)
        sparse = config.blocks[1].feed_forward
        assert isinstance(sparse, MoeConfig) and (sparse.count, sparse.groups) == (384, 1)
        assert not config.unused
