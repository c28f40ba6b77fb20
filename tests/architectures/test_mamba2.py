"""Mamba 2 against transformers, and quantized against mlx_lm."""

import math

import pytest

from bessemer.architectures.config import ConfigError, Recurrent
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import Case, Config

MAMBA: Config = {
    "model_type": "mamba2",
    "vocab_size": 80,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_heads": 4,
    "head_dim": 32,
    "n_groups": 2,
    "state_size": 16,
    "conv_kernel": 4,
    "chunk_size": 16,
    "layer_norm_epsilon": 0.02,
    "time_step_limit": [0.1, 2.0],
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
ODD = MAMBA | {
    "hidden_size": 48,
    "num_heads": 3,
    "head_dim": 16,
    "n_groups": 1,
    "state_size": 33,
    "conv_kernel": 3,
    "expand": 1,
    "use_bias": True,
    "use_conv_bias": False,
    "tie_word_embeddings": True,
}
del ODD["time_step_limit"]
AFFINE = MAMBA | {
    "intermediate_size": 128,
    "n_groups": 1,  # mlx_lm's norm is of all groups at once
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_rank": 4,
    "layer_norm_epsilon": 1e-5,  # mlx_lm's norm before a layer knows no other
    "quantization": {
        "group_size": 32,
        "bits": 4,
        "backbone.layers.0.mixer.in_proj": {"group_size": 64, "bits": 8},
    },
}

PUBLISHED = {  # mistralai/Mamba-Codestral-7B-v0.1
    "architectures": ["Mamba2ForCausalLM"],
    "bos_token_id": 0,
    "chunk_size": 256,
    "conv_kernel": 4,
    "eos_token_id": 0,
    "expand": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.1,
    "intermediate_size": 8192,
    "layer_norm_epsilon": 1e-05,
    "model_type": "mamba2",
    "n_groups": 8,
    "norm_before_gate": True,
    "num_heads": 128,
    "num_hidden_layers": 64,
    "pad_token_id": 0,
    "rescale_prenorm_residual": False,
    "residual_in_fp32": True,
    "rms_norm": True,
    "state_size": 128,
    "tie_word_embeddings": False,
    "time_step_floor": 0.0001,
    "time_step_init_scheme": "random",
    "time_step_limit": [0.0, math.inf],
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "time_step_rank": 256,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.44.0.dev0",
    "use_bias": False,
    "use_cache": True,
    "use_conv_bias": True,
    "vocab_size": 32768,
}


class TestMamba2(Parity):
    family = "mamba2"
    cases = {
        "groups": Case(MAMBA, {"layer_norm_epsilon": 0.01, "time_step_limit": [0.1, 1.0]}),
        "odd_biased_tied": Case(ODD, {"time_step_limit": [0.3, math.inf]}),
        "affine": Case(AFFINE, {"time_step_limit": [0.2, 2.0]}, source="mlx_lm"),
    }


def test_the_published_config_is_understood() -> None:
    config = configure(PUBLISHED)
    assert config.windows == () and config.context == 1 << 18
    assert config.caches == (Recurrent(((3, 10240), (128, 64, 128))),) * 64


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_heads", 64), ("n_groups", 3), ("rms_norm", False), ("hidden_act", "gelu")],
)
def test_what_is_not_built_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        configure(PUBLISHED | {field: value})
