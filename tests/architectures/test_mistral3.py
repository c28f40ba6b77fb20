"""The language model of Mistral 3 against transformers, and quantized against mlx_lm."""

import re
from pathlib import Path
from typing import Any

import pytest

from bessemer.architectures.config import ConfigError
from bessemer.architectures.registry import configure
from bessemer.engine.checkpoint.weights import Reading
from bessemer.engine.model import load

from . import test_ministral3, test_mistral
from .parity import Golden, Parity, model
from .steps import prefill
from .tiny import Case, Tiny, prompts, tensors

VISION = {
    "model_type": "pixtral",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 16,
    "image_size": 28,
    "patch_size": 14,
    "num_channels": 3,
    "hidden_act": "gelu",
}
MISTRAL3 = {
    "model_type": "mistral3",
    "image_token_index": 10,
    "multimodal_projector_bias": False,
    "projector_hidden_act": "gelu",
    "spatial_merge_size": 2,
    "vision_feature_layer": -1,
    "vision_config": VISION,
}
MISTRAL = test_mistral.MISTRAL | {"head_dim": 32, "sliding_window": None}


class TestMistral3(Parity):
    family = "mistral3"
    cases = {
        "mistral": Case(
            MISTRAL3 | {"text_config": MISTRAL, "tie_word_embeddings": False},
            {
                "text_config.rms_norm_eps": 0.01,
                "text_config.rope_theta": 1300.0,
                "text_config.sliding_window": 20,
            },
            auto="AutoModelForImageTextToText",
        ),
        "ministral3_tied": Case(
            MISTRAL3
            | {
                "text_config": test_ministral3.MINISTRAL3
                | {"head_dim": 24, "tie_word_embeddings": True},
                "tie_word_embeddings": True,
            },
            {
                "text_config.rms_norm_eps": 0.01,
                "text_config.rope_parameters.llama_4_scaling_beta": 0.8,
            },
            auto="AutoModelForImageTextToText",
        ),
        "affine": Case(
            MISTRAL3
            | {
                "text_config": test_ministral3.MINISTRAL3 | {"head_dim": 16},
                "quantization": {
                    "group_size": 32,
                    "bits": 4,
                    "language_model.model.layers.1.mlp.down_proj": {"group_size": 32, "bits": 8},
                },
            },
            {
                "text_config.rms_norm_eps": 0.01,
                "text_config.rope_parameters.llama_4_scaling_beta": 0.8,
            },
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # mistralai/Mistral-Small-3.1-24B-Instruct-2503
    "architectures": ["Mistral3ForConditionalGeneration"],
    "image_token_index": 10,
    "model_type": "mistral3",
    "multimodal_projector_bias": False,
    "projector_hidden_act": "gelu",
    "spatial_merge_size": 2,
    "text_config": {
        "attention_dropout": 0.0,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 5120,
        "initializer_range": 0.02,
        "intermediate_size": 32768,
        "max_position_embeddings": 131072,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 40,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000000.0,
        "sliding_window": None,
        "use_cache": True,
        "vocab_size": 131072,
    },
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "vision_config": {
        "attention_dropout": 0.0,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 1024,
        "image_size": 1540,
        "initializer_range": 0.02,
        "intermediate_size": 4096,
        "model_type": "pixtral",
        "num_attention_heads": 16,
        "num_channels": 3,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "rope_theta": 10000.0,
    },
    "vision_feature_layer": -1,
}


def test_the_names_of_transformers_5_are_the_same_weights(tmp_path: Path) -> None:
    golden = Golden.read("mistral3_mistral")
    arrays = {
        re.sub(r"^language_model\.model\.", "model.language_model.", name): array
        for name, array in tensors(golden.shapes, golden.config).items()
    }
    arrays["lm_head.weight"] = arrays.pop("language_model.lm_head.weight")
    arrays["model.vision_tower.ln_pre.weight"] = arrays.pop("vision_tower.ln_pre.weight")
    path = Tiny(golden.config, arrays).write(tmp_path)
    text = prompts()[1]
    renamed = prefill(load(path, Reading(exact=True)), text)
    assert (renamed == prefill(model("mistral3_mistral"), text)).all()


def test_published_configs() -> None:
    config = configure(PUBLISHED)
    assert (config.model_type, config.layers, config.tied) == ("mistral3", 40, False)
    assert (config.ropes[0].theta, config.windows) == (1e9, (None,))
    small = configure(PUBLISHED | {"text_config": test_ministral3.PUBLISHED})
    assert small.blocks == configure(test_ministral3.PUBLISHED).blocks
    assert small.tied


def test_what_the_text_lacks_or_has_too_much_is_refused_by_its_name() -> None:
    text = PUBLISHED["text_config"]
    with pytest.raises(ConfigError, match=r"text_config\.mystery is 3"):
        configure(PUBLISHED | {"text_config": text | {"mystery": 3}})
    with pytest.raises(ConfigError, match=r"text_config\.hidden_size is missing"):
        configure(PUBLISHED | {"text_config": text | {"hidden_size": None}})
    with pytest.raises(ConfigError, match=r"text_config\.model_type is 'mistral4'"):
        configure(PUBLISHED | {"text_config": text | {"model_type": "mistral4"}})
