"""Published configs of Gemma 3n and 4 and what they say, and what of a config is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.architectures.config import (
    AltUpConfig,
    ConfigError,
    ModelConfig,
    Paged,
    PerLayerConfig,
    Rope,
    SharingConfig,
)
from bessemer.architectures.feed_forward_config import MlpConfig, ParallelConfig
from bessemer.architectures.registry import configure
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.model import load

from .parity import difference, tiny
from .steps import prefill
from .tiny import prompts

SLIDING, FULL = "sliding_attention", "full_attention"
TEXT: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "initializer_range": 0.02,
    "num_attention_heads": 8,
    "rms_norm_eps": 1e-06,
    "sliding_window": 512,
    "use_cache": True,
}
GEMMA_3N_E2B: dict[str, Any] = {
    "architectures": ["Gemma3nForConditionalGeneration"],
    "audio_config": {"model_type": "gemma3n_audio", "hidden_size": 1536},
    "audio_soft_tokens_per_image": 188,
    "audio_token_id": 262273,
    "boa_token_id": 256000,
    "boi_token_id": 255999,
    "eoa_token_id": 262272,
    "eoi_token_id": 262144,
    "eos_token_id": [1, 106],
    "image_token_id": 262145,
    "initializer_range": 0.02,
    "model_type": "gemma3n",
    "text_config": TEXT
    | {
        "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 20,
        "altup_active_idx": 0,
        "altup_coef_clip": 120.0,
        "altup_correct_scale": True,
        "altup_lr_multiplier": 1.0,
        "altup_num_inputs": 4,
        "hidden_size": 2048,
        "hidden_size_per_layer_input": 256,
        "intermediate_size": [8192] * 30,
        "laurel_rank": 64,
        "layer_types": ([SLIDING] * 4 + [FULL]) * 6,
        "max_position_embeddings": 32768,
        "model_type": "gemma3n_text",
        "num_hidden_layers": 30,
        "num_key_value_heads": 2,
        "num_kv_shared_layers": 10,
        "query_pre_attn_scalar": 256,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "torch_dtype": "bfloat16",
        "vocab_size": 262400,
        "vocab_size_per_layer_input": 262144,
    },
    "torch_dtype": "bfloat16",
    "transformers_version": "4.53.0.dev0",
    "vision_config": {"model_type": "gemma3n_vision", "hidden_size": 2048},
    "vision_soft_tokens_per_image": 256,
}
ROPES = {
    FULL: {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
    SLIDING: {"rope_theta": 10000.0, "rope_type": "default"},
}
GEMMA_4_E2B: dict[str, Any] = {
    "architectures": ["Gemma4ForConditionalGeneration"],
    "audio_config": {"model_type": "gemma4_audio", "hidden_size": 1024},
    "audio_token_id": 258881,
    "boa_token_id": 256000,
    "boi_token_id": 255999,
    "eoa_token_index": 258883,
    "eoi_token_id": 258882,
    "image_token_id": 258880,
    "model_type": "gemma4",
    "text_config": TEXT
    | {
        "attention_k_eq_v": False,
        "enable_moe_block": False,
        "global_head_dim": 512,
        "hidden_size": 1536,
        "hidden_size_per_layer_input": 256,
        "intermediate_size": 6144,
        "layer_types": ([SLIDING] * 4 + [FULL]) * 7,
        "max_position_embeddings": 131072,
        "model_type": "gemma4_text",
        "num_experts": None,
        "num_global_key_value_heads": None,
        "num_hidden_layers": 35,
        "num_key_value_heads": 1,
        "num_kv_shared_layers": 20,
        "rope_parameters": ROPES,
        "tie_word_embeddings": True,
        "top_k_experts": None,
        "use_bidirectional_attention": None,
        "use_double_wide_mlp": True,
        "vocab_size": 262144,
        "vocab_size_per_layer_input": 262144,
    },
    "video_token_id": 258884,
    "vision_config": {"model_type": "gemma4_vision", "hidden_size": 768},
}
GEMMA_4_26B = {
    name: value for name, value in GEMMA_4_E2B.items() if name not in ("audio_config", "dtype")
} | {
    "text_config": GEMMA_4_E2B["text_config"]
    | {
        "attention_k_eq_v": True,
        "enable_moe_block": True,
        "hidden_size": 2816,
        "hidden_size_per_layer_input": 0,
        "intermediate_size": 2112,
        "layer_types": ([SLIDING] * 5 + [FULL]) * 5,
        "moe_intermediate_size": 704,
        "num_attention_heads": 16,
        "num_experts": 128,
        "num_global_key_value_heads": 2,
        "num_hidden_layers": 30,
        "num_key_value_heads": 8,
        "num_kv_shared_layers": 0,
        "sliding_window": 1024,
        "top_k_experts": 8,
        "use_bidirectional_attention": "vision",
        "use_double_wide_mlp": False,
    }
}


def within(config: dict[str, Any], **changes: object) -> dict[str, Any]:
    return config | {"text_config": config["text_config"] | changes}


def mixers(config: ModelConfig) -> list[SharingConfig]:
    return [block.mixer for block in config.blocks if isinstance(block.mixer, SharingConfig)]


def test_gemma_3n_borrows_from_the_last_layer_of_each_kind_before() -> None:
    config = configure(GEMMA_3N_E2B)
    assert config.cache_index == (*range(20), *([18] * 4 + [19]) * 2)
    assert [cache is None for cache in config.caches] == [False] * 20 + [True] * 10
    assert config.altup == AltUpConfig(4, 0, 64, scaled=True)
    assert config.per_layer == PerLayerConfig(262144, 256, "gelu_tanh")
    cuts = [b.feed_forward.cut for b in config.blocks if isinstance(b.feed_forward, MlpConfig)]
    assert cuts == [pytest.approx(1.6449, abs=1e-4)] * 10 + [None] * 20
    assert config.model == "model.language_model" and config.tied


def test_gemma_4_has_larger_heads_where_it_sees_all() -> None:
    config = configure(GEMMA_4_E2B)
    layers = mixers(config)
    assert [m.head_dim for m in layers] == ([256] * 4 + [512]) * 7
    assert layers[4].rope == Rope(512, 1e6, "proportional", rotated_dims=128)
    assert layers[3].rope == Rope(256, 1e4)
    assert config.cache_index == (*range(15), *([13] * 4 + [14]) * 4)
    widths = [b.feed_forward.width for b in config.blocks if isinstance(b.feed_forward, MlpConfig)]
    assert widths == [6144] * 15 + [12288] * 20
    assert config.caches[4] == Paged(1, 512, 512)


def test_gemma_4_with_experts_takes_keys_as_values_where_it_sees_all() -> None:
    config = configure(GEMMA_4_26B)
    layers = mixers(config)
    assert [(m.kv_heads, m.keys_as_values) for m in layers[:6]] == [(8, False)] * 5 + [(2, True)]
    both = config.blocks[0].feed_forward
    assert isinstance(both, ParallelConfig) and config.per_layer is None
    assert (both.dense.width, both.sparse.width) == (2112, 704)
    assert (both.sparse.count, both.sparse.per_token) == (128, 8)


def test_what_transformers_saves_of_single_layers_means_the_same() -> None:
    names = ("global_head_dim", "num_global_key_value_heads")
    per_layer = {
        f"{layer:02}": {"head_dim": 512, "num_key_value_heads": 2} for layer in range(5, 30, 6)
    }
    text = GEMMA_4_26B["text_config"]
    saved = {name: value for name, value in text.items() if name not in names}
    saved |= {"per_layer_config": per_layer}
    assert configure(GEMMA_4_26B | {"text_config": saved}) == configure(GEMMA_4_26B)


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        within(GEMMA_4_E2B, use_bidirectional_attention="all"),
        "use_bidirectional_attention is 'all'",
    ),
    (within(GEMMA_4_E2B, num_kv_shared_layers=35), "num_kv_shared_layers is 35"),
    (within(GEMMA_4_E2B, num_kv_shared_layers=31), "num_kv_shared_layers is 31"),
    (within(GEMMA_4_26B, top_k_experts=129), "top_k_experts is 129"),
    (within(GEMMA_4_26B, per_layer_config={"x": {"head_dim": 2}}), "per_layer_config.x is"),
    (within(GEMMA_4_E2B, rope_parameters={FULL: {}}), "rope_parameters is"),
    (within(GEMMA_3N_E2B, intermediate_size=[8192]), "intermediate_size is [8192]"),
    (within(GEMMA_3N_E2B, activation_sparsity_pattern=[1.0] * 30), "activation_sparsity_pattern"),
    (within(GEMMA_3N_E2B, altup_active_idx=4), "altup_active_idx is 4"),
    (within(GEMMA_3N_E2B, hidden_size_per_layer_input=0), "hidden_size_per_layer_input is 0"),
]


@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_refusals_name_the_field(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure(config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "borrower", "lender"),
    [("gemma3n_sparse_lending", 4, 1), ("gemma4_per_layer_lending", 4, 1)],
)
def test_keys_of_layers_that_borrow_are_left_alone(
    name: str, borrower: int, lender: int, tmp_path: Path
) -> None:
    model = tiny(name)
    for part in ("k_proj.weight", "v_proj.weight", "k_norm.weight"):
        like = model.tensors[f"model.layers.{lender}.self_attn.{part}"]
        model.tensors[f"model.layers.{borrower}.self_attn.{part}"] = np.zeros_like(like)
    other = load(model.write(tmp_path / "more"))
    assert difference(name, [prefill(other, prompts()[0])]) <= 2e-4
    del model.tensors[f"model.layers.{lender}.self_attn.k_proj.weight"]
    with pytest.raises(CheckpointError, match="lacks the tensor"):
        load(model.write(tmp_path / "less"))
