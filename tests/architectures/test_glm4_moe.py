"""GLM 4.5 to 4.7 against transformers, and quantized against mlx_lm."""

from bessemer.architectures.config import AttentionConfig, LatentConfig
from bessemer.architectures.feed_forward_config import MlpConfig, MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case, Config

EXPERTS = {
    "num_hidden_layers": 3,
    "moe_intermediate_size": 24,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 3,
    "routed_scaling_factor": 2.5,
    "n_group": 2,
    "topk_group": 1,
    "norm_topk_prob": True,
}
GLM4_MOE = (
    BASE
    | EXPERTS
    | {
        "model_type": "glm4_moe",
        "head_dim": 24,
        "first_k_dense_replace": 1,
        "attention_bias": True,
        "use_qk_norm": True,
        "partial_rotary_factor": 0.5,
    }
)
ODD = GLM4_MOE | {
    "hidden_size": 48,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "first_k_dense_replace": 0,
    "attention_bias": False,
    "use_qk_norm": False,
    "n_shared_experts": 2,
    "num_experts_per_tok": 1,
    "n_group": 1,
    "norm_topk_prob": False,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 500.0,
        "partial_rotary_factor": 0.25,
    },
}
del ODD["rope_theta"], ODD["partial_rotary_factor"]
WIDE = GLM4_MOE | {
    "hidden_size": 128,
    "head_dim": 32,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "rope_scaling": None,
    "n_group": 1,
    "quantization": {"group_size": 32, "bits": 4},
}
LITE = (
    BASE
    | EXPERTS
    | {
        "model_type": "glm4_moe_lite",
        "num_key_value_heads": 4,
        "q_lora_rank": 24,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 12,
        "qk_rope_head_dim": 8,
        "v_head_dim": 20,
        "mlp_layer_types": ["sparse", "dense", "sparse"],
        "rope_scaling": YARN | {"mscale_all_dim": 0.5},
    }
)
LITE_ODD = LITE | {
    "hidden_size": 48,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "q_lora_rank": None,
    "num_experts_per_tok": 1,
    "norm_topk_prob": False,
    "rope_interleave": False,
    "attention_bias": True,
    "tie_word_embeddings": True,
    "rope_scaling": None,
}
del LITE_ODD["mlp_layer_types"]
LITE_WIDE = LITE | {
    "hidden_size": 128,
    "q_lora_rank": 64,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "moe_intermediate_size": 64,
    "n_group": 1,
    "rms_norm_eps": 1e-6,
    "first_k_dense_replace": 2,
    "rope_scaling": None,
    "quantization": {"group_size": 32, "bits": 8},
}
del LITE_WIDE["mlp_layer_types"]
# zai-org/GLM-4.5-Air
PUBLISHED: Config = {
    "architectures": ["Glm4MoeForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "eos_token_id": [151329, 151336, 151338],
    "first_k_dense_replace": 1,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 10944,
    "max_position_embeddings": 131072,
    "model_type": "glm4_moe",
    "moe_intermediate_size": 1408,
    "n_group": 1,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 96,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 46,
    "num_key_value_heads": 8,
    "num_nextn_predict_layers": 1,
    "pad_token_id": 151329,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "routed_scaling_factor": 1.0,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.54.0",
    "use_cache": True,
    "use_qk_norm": False,
    "vocab_size": 151552,
}
# zai-org/GLM-4.7-Flash
FLASH: Config = {
    "architectures": ["Glm4MoeLiteForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "dtype": "bfloat16",
    "eos_token_id": [154820, 154827, 154829],
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 10240,
    "kv_lora_rank": 512,
    "max_position_embeddings": 202752,
    "model_type": "glm4_moe_lite",
    "moe_intermediate_size": 1536,
    "n_group": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 20,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 47,
    "num_key_value_heads": 20,
    "num_nextn_predict_layers": 1,
    "pad_token_id": 154820,
    "partial_rotary_factor": 1.0,
    "q_lora_rank": 768,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "routed_scaling_factor": 1.8,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "transformers_version": "5.0.0rc0",
    "v_head_dim": 256,
    "vocab_size": 154880,
}


class TestGlm4Moe(Parity):
    family = "glm4_moe"
    cases = {
        "groups_normed_biased": Case(
            GLM4_MOE,
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "partial_rotary_factor": 0.25,
                "routed_scaling_factor": 2.0,
                "num_experts_per_tok": 2,
                "norm_topk_prob": False,
                "topk_group": 2,
                "hidden_act": "gelu",
            },
        ),
        "one_expert_mqa_tied": Case(
            ODD,
            {
                "rope_parameters.rope_theta": 700.0,
                "rope_parameters.partial_rotary_factor": 0.5,
                "routed_scaling_factor": 2.0,
                "norm_topk_prob": True,
            },
        ),
        "affine": Case(WIDE, {"routed_scaling_factor": 2.0}, "mlx_lm"),
    }

    def test_a_published_config(self) -> None:
        config = configure(PUBLISHED)
        mixer, dense = config.blocks[0].mixer, config.blocks[0].feed_forward
        sparse = config.blocks[1].feed_forward
        assert isinstance(mixer, AttentionConfig) and mixer.bias and not mixer.output_bias
        assert mixer.qk_norm is None and mixer.rope is not None and mixer.rope.dims == 64
        assert isinstance(dense, MlpConfig) and dense.width == 10944
        assert isinstance(sparse, MoeConfig) and sparse.shared_width == 1408
        assert config.unused == (r"model\.layers\.46\.",)


class TestGlm4MoeLite(Parity):
    family = "glm4_moe_lite"
    cases = {
        "kinds_yarn": Case(
            LITE,
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "rope_interleave": False,
                "rope_scaling": None,
                "rope_scaling.mscale_all_dim": 1.0,
                "routed_scaling_factor": 2.0,
                "num_experts_per_tok": 2,
                "norm_topk_prob": False,
                "topk_group": 2,
                "hidden_act": "gelu",
            },
        ),
        "one_expert_halves_biased_tied": Case(
            LITE_ODD,
            {
                "rms_norm_eps": 0.01,
                "rope_interleave": True,
                "routed_scaling_factor": 2.0,
                "norm_topk_prob": True,
            },
        ),
        "affine": Case(LITE_WIDE, {"norm_topk_prob": False}, "mlx_lm"),
    }

    def test_a_published_config(self) -> None:
        config = configure(FLASH)
        mixer, sparse = config.blocks[0].mixer, config.blocks[1].feed_forward
        assert isinstance(mixer, LatentConfig) and mixer.scale == 256**-0.5
        assert isinstance(config.blocks[0].feed_forward, MlpConfig)
        assert isinstance(sparse, MoeConfig) and sparse.scale == 1.8
        assert config.norm.eps == 1e-5 and mixer.eps == 1e-6
