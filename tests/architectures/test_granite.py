"""Granite 3, dense and with experts, against transformers, and quantized against mlx_lm."""

from bessemer.architectures.config import AttentionConfig
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

GRANITE = BASE | {
    "model_type": "granite",
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.35,
    "residual_multiplier": 0.6,
    "logits_scaling": 0.8,
    "attention_bias": False,
    "mlp_bias": False,
    "pad_token_id": 0,
}
ODD = GRANITE | {
    "hidden_size": 48,
    "head_dim": 20,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "attention_bias": True,
    "mlp_bias": True,
    "tie_word_embeddings": True,
    "rope_scaling": YARN,
    "logits_scaling": 0.6,
}
EXPERTS = GRANITE | {
    "model_type": "granitemoe",
    "intermediate_size": 40,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
}
del EXPERTS["mlp_bias"]
ODD_EXPERTS = EXPERTS | {
    "hidden_size": 48,
    "num_attention_heads": 6,
    "num_key_value_heads": 1,
    "num_experts_per_tok": 1,
    "attention_bias": True,
    "tie_word_embeddings": True,
    "logits_scaling": 0.5,
}
AFFINE = {"group_size": 32, "bits": 4}
ROUTERS = {
    f"model.layers.{layer}.block_sparse_moe.router.layer": {"group_size": 64, "bits": 8}
    for layer in range(2)
}
MULTIPLIERS = {
    "embedding_multiplier": 2.0,
    "attention_multiplier": 0.25,
    "residual_multiplier": 1.0,
    "logits_scaling": 1.0,
    "rms_norm_eps": 0.01,
    "rope_theta": 1300.0,
}

PUBLISHED = {  # ibm-granite/granite-3.3-8b-instruct
    "architectures": ["GraniteForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_multiplier": 0.0078125,
    "bos_token_id": 0,
    "embedding_multiplier": 12.0,
    "eos_token_id": 0,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 12800,
    "logits_scaling": 16.0,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "granite",
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "pad_token_id": 0,
    "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.49.0",
    "use_cache": True,
    "vocab_size": 49159,
}
PUBLISHED_EXPERTS = {  # ibm-granite/granite-3.1-3b-a800m-instruct
    "architectures": ["GraniteMoeForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.1,
    "attention_multiplier": 0.015625,
    "bos_token_id": 0,
    "embedding_multiplier": 12.0,
    "eos_token_id": 0,
    "hidden_act": "silu",
    "hidden_size": 1536,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "logits_scaling": 6.0,
    "max_position_embeddings": 131072,
    "model_type": "granitemoe",
    "num_attention_heads": 24,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 40,
    "output_router_logits": False,
    "pad_token_id": 0,
    "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000000.0,
    "router_aux_loss_coef": 0.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.47.0.dev0",
    "use_cache": True,
    "vocab_size": 49155,
}


class TestGranite(Parity):
    family = "granite"
    cases = {
        "multiplied": Case(GRANITE, MULTIPLIERS),
        "odd_biased_tied_yarn": Case(ODD, {"rope_scaling": None, "rope_scaling.factor": 8.0}),
        "affine": Case(GRANITE | {"quantization": AFFINE}, MULTIPLIERS, source="mlx_lm"),
    }


class TestGraniteMoe(Parity):
    family = "granitemoe"
    cases = {
        "multiplied": Case(EXPERTS, MULTIPLIERS | {"num_experts_per_tok": 3}),
        "odd_biased_tied": Case(ODD_EXPERTS, {"num_experts_per_tok": 2, "hidden_act": "gelu"}),
        "affine": Case(
            EXPERTS
            | {
                "num_local_experts": 4,
                "intermediate_size": 32,
                "quantization": AFFINE | ROUTERS,
            },
            MULTIPLIERS,
            source="mlx_lm",
        ),
    }


def test_published_configs_are_understood() -> None:
    config = configure(PUBLISHED)
    mixer = config.blocks[0].mixer
    assert isinstance(mixer, AttentionConfig) and mixer.scale == 1 / 128
    assert (config.embed_scale, config.residual_scale, config.logit_scale) == (12, 0.22, 1 / 16)
    experts = configure(PUBLISHED_EXPERTS).blocks[31].feed_forward
    assert isinstance(experts, MoeConfig)
    assert (experts.count, experts.per_token, experts.width) == (40, 8, 512)
