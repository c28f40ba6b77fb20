"""GLM 4 against transformers, and quantized against mlx_lm."""

from bessemer.architectures.config import AttentionConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case, Config

GLM4 = BASE | {
    "model_type": "glm4",
    "head_dim": 24,
    "attention_bias": True,
    "partial_rotary_factor": 0.5,
    "pad_token_id": None,
}
ODD = GLM4 | {
    "hidden_size": 40,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "attention_bias": False,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 500.0,
        "partial_rotary_factor": 1.0,
    },
}
del ODD["rope_theta"], ODD["partial_rotary_factor"]
WIDE = GLM4 | {
    "hidden_size": 128,
    "intermediate_size": 128,
    "head_dim": 32,
    "quantization": {"group_size": 32, "bits": 4},
}
# zai-org/GLM-4-32B-0414
PUBLISHED: Config = {
    "architectures": ["Glm4ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": [151329, 151336, 151338],
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 6144,
    "initializer_range": 0.02,
    "intermediate_size": 23040,
    "max_position_embeddings": 32768,
    "model_type": "glm4",
    "num_attention_heads": 48,
    "num_hidden_layers": 61,
    "num_key_value_heads": 8,
    "pad_token_id": 151329,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.52.0.dev0",
    "use_cache": True,
    "vocab_size": 151552,
}


class TestGlm4(Parity):
    family = "glm4"
    cases = {
        "biased": Case(
            GLM4,
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "partial_rotary_factor": 0.25,
                "hidden_act": "gelu",
            },
        ),
        "mqa_all_turned_tied": Case(
            ODD,
            {
                "rms_norm_eps": 0.01,
                "rope_parameters.rope_theta": 700.0,
                "rope_parameters.partial_rotary_factor": 0.5,
            },
        ),
        "affine": Case(WIDE, {"partial_rotary_factor": 0.25}, "mlx_lm"),
    }

    def test_a_published_config(self) -> None:
        config = configure(PUBLISHED)
        mixer = config.blocks[0].mixer
        assert isinstance(mixer, AttentionConfig) and mixer.interleaved and not mixer.bias
        assert mixer.rope is not None and mixer.rope.dims == 64
        assert config.norm.eps == 1e-5

    def test_what_a_config_leaves_out(self) -> None:
        required = ("attention_bias", "head_dim", "partial_rotary_factor", "rms_norm_eps")
        config = configure({name: PUBLISHED[name] for name in PUBLISHED if name not in required})
        mixer = config.blocks[0].mixer
        assert isinstance(mixer, AttentionConfig) and mixer.head_dim == 128 and mixer.bias
        assert mixer.rope is not None and mixer.rope.dims == 64
        assert config.norm.eps == 1.5625e-7
