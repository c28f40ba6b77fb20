"""Gemma 3n against transformers, and quantized against mlx_lm."""

from .parity import Parity
from .tiny import BASE, Case, Config

LAYERS = ["sliding_attention", "full_attention"]
TEXT: Config = BASE | {
    "model_type": "gemma3n_text",
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "head_dim": 16,
    "num_hidden_layers": 5,
    "layer_types": LAYERS * 2 + LAYERS[1:],
    "intermediate_size": [96, 64, 96, 64, 96],
    "activation_sparsity_pattern": [0.9, 0.0, 0.6, 0.0, 0.0],
    "num_kv_shared_layers": 2,
    "sliding_window": 9,
    "rope_local_base_freq": 100.0,
    "vocab_size_per_layer_input": 70,
    "hidden_size_per_layer_input": 32,
    "laurel_rank": 32,
    "altup_num_inputs": 3,
    "altup_active_idx": 0,
    "altup_coef_clip": 120.0,
    "altup_correct_scale": True,
    "final_logit_softcapping": 4.0,
}
del TEXT["hidden_act"]  # of another name
MATTERS = {
    "rms_norm_eps": 0.1,
    "sliding_window": 12,
    "hidden_activation": "silu",
    "final_logit_softcapping": None,
    "rope_theta": 400.0,
    "rope_local_base_freq": 40.0,
    "activation_sparsity_pattern": [0.9, 0.0, 0.7, 0.0, 0.0],
    "altup_active_idx": 1,
    "altup_correct_scale": False,
}
ODD = {
    "hidden_size": 48,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "num_hidden_layers": 3,
    "layer_types": [*LAYERS, "sliding_attention"],
    "intermediate_size": 64,
    "activation_sparsity_pattern": None,
    "num_kv_shared_layers": 0,
    "altup_num_inputs": 2,
    "altup_active_idx": 1,
    "altup_correct_scale": False,
    "attention_bias": True,
    "tie_word_embeddings": False,
}
SMALL = [
    f"model.language_model.layers.{layer}.altup.{part}_coefs"
    for layer in range(5)
    for part in ("prediction", "correction")
]
AFFINE = {"group_size": 32, "bits": 4} | dict.fromkeys(SMALL, False)


class TestGemma3n(Parity):
    family = "gemma3n"
    cases = {
        "sparse_lending": Case(TEXT, MATTERS),
        "odd_biased": Case(TEXT | ODD),
        # mlx_lm lets layers borrow only where there is a cache, which the generator gives it not.
        "affine": Case(
            {
                "model_type": "gemma3n",
                "text_config": TEXT | {"num_kv_shared_layers": 0},
                "quantization": AFFINE,
            },
            source="mlx_lm",
        ),
    }
