"""Tests of what most families spell alike: sizes, windows, kinds of layers, experts, storage."""

import math
from typing import Any

import pytest

from bessemer.architectures.config import (
    AttentionConfig,
    BlockConfig,
    ConfigError,
    ModelConfig,
    NormConfig,
    Paged,
    Rope,
    SsmConfig,
)
from bessemer.architectures.feed_forward_config import MlpConfig, MoeConfig
from bessemer.architectures.fields import Fields
from bessemer.architectures.read import (
    FULL,
    SLIDING,
    alike,
    attention,
    biases,
    decoder,
    layer_kinds,
    local_experts,
    mixture,
    mlp,
    needed_window,
    read_activation,
    read_quantization,
    read_window,
    read_windows,
    rms,
    state_space,
    text_side,
    time_limits,
    windowed,
)
from bessemer.architectures.registry import configure
from bessemer.architectures.storage import Quantization, Stored

from .tiny import BASE

LLAMA = BASE | {"model_type": "llama"}
MISTRAL = BASE | {"model_type": "mistral"}
QWEN2 = BASE | {"model_type": "qwen2"}
QWEN3 = BASE | {"model_type": "qwen3"}


def fields(**changes: Any) -> Fields:
    return Fields(LLAMA | changes)


def windows(config: ModelConfig) -> tuple[int | None, ...]:
    """Return each layer's window."""
    return tuple(cache.window for cache in config.caches if isinstance(cache, Paged))


def test_attention_of_a_config() -> None:
    assert attention(fields()) == AttentionConfig(4, 2, 16, 0.25, Rope(16, 1000.0))
    wide = attention(fields(head_dim=32), 8, 0.5, window=3, scale=2.0)
    assert wide == AttentionConfig(4, 2, 32, 2.0, Rope(16, 1000.0), window=3)
    assert attention(fields(num_key_value_heads=None), 8).kv_heads == 4
    assert attention(fields(), 8, rope=None) == AttentionConfig(4, 2, 8, 8**-0.5)


def test_biases_of_attention() -> None:
    assert biases(fields()) == {"bias": False, "output_bias": False}
    assert biases(fields(), True) == {"bias": True, "output_bias": True}
    assert biases(fields(attention_bias=True)) == {"bias": True, "output_bias": True}


def test_feed_forward_layers_and_norms() -> None:
    assert mlp(fields(hidden_act=None), "gelu_new", bias=True) == MlpConfig(
        96, "gelu_tanh", bias=True
    )
    names = {"swish": "silu", "gelu": "gelu", "gelu_fast": "gelu_tanh", "relu2": "relu2"}
    for name, activation in names.items():
        assert read_activation(fields(hidden_act=name), "silu") == activation
    assert rms(fields(), zero_centred=True) == NormConfig(0.02, zero_centred=True)
    assert rms(fields(rms_norm_eps=None), 0.5) == NormConfig(0.5)


def test_the_model_around_its_blocks() -> None:
    block = BlockConfig(AttentionConfig(4, 2, 16, 1.0), MlpConfig(96))
    assert alike(fields(num_hidden_layers=3), block.mixer, block.feed_forward) == [block] * 3  # type: ignore[arg-type]
    plain = decoder(fields(), [block], NormConfig(1.0), head_bias=True)
    oracle = ModelConfig("llama", 80, 64, 256, (block,), NormConfig(1.0), False, head_bias=True)
    assert plain == oracle
    rope = Rope(16, kind="dynamic", factor=4.0)
    stretched = BlockConfig(AttentionConfig(4, 2, 16, 1.0, rope), None)
    assert decoder(fields(), [block, stretched], NormConfig(1.0)).context == 1024


def test_rows_that_see_later_ones_need_plain_attention() -> None:
    plain = AttentionConfig(4, 2, 16, 1.0)
    both = fields(is_causal=False)
    assert decoder(both, [BlockConfig(plain, None)], NormConfig(1.0)).bidirectional
    windowed = AttentionConfig(4, 2, 16, 1.0, window=4)
    for mixer in (windowed, AttentionConfig(4, 2, 16, 1.0, softcap=1.0), None):
        with pytest.raises(ConfigError, match="is_causal is False"):
            decoder(both, [BlockConfig(plain, None), BlockConfig(mixer, None)], NormConfig(1.0))


def test_the_text_side_of_a_model_that_sees() -> None:
    side = text_side(fields(vision_config={"depth": 2}), tied=True)
    assert (side["model"], side["head"], side["tied"]) == (
        "language_model.model",
        "language_model.lm_head",
        True,
    )


def test_a_window_no_shorter_than_the_context_is_none() -> None:
    assert windows(configure(MISTRAL | {"sliding_window": 256})) == (None, None)
    assert windows(configure(MISTRAL | {"sliding_window": 255})) == (255, 255)


@pytest.mark.parametrize(
    ("fields", "oracle"),
    [
        ({"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 0}, (None, None)),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, (None, 8)),
        ({"use_sliding_window": True, "sliding_window": None}, (None, None)),
        (
            {
                "use_sliding_window": True,
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "full_attention"],
            },
            (8, None),
        ),
    ],
)
def test_windows(fields: dict[str, Any], oracle: tuple[int | None, ...]) -> None:
    assert windows(configure(QWEN2 | fields)) == oracle
    assert windows(configure(QWEN3 | fields)) == oracle


def test_a_window_that_is_absent_null_or_needed() -> None:
    assert read_window(fields()) is None
    assert read_window(fields(), default=16) == 16
    assert read_window(fields(sliding_window=None), default=16) is None
    assert needed_window(fields(sliding_window=8)) == 8
    with pytest.raises(ConfigError, match="sliding_window is missing"):
        needed_window(fields())


def test_kinds_of_layers() -> None:
    four = {"num_hidden_layers": 4}
    assert windowed(fields(**four), 2) == [SLIDING, FULL] * 2
    listed = [FULL, FULL, SLIDING, FULL]
    assert windowed(fields(layer_types=listed, **four), 2) == listed
    assert layer_kinds(fields(**four), ["x"], lambda layer: str(layer)) == ["0", "1", "2", "3"]
    slides = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3}
    assert read_windows(fields(**four, **slides)) == [None, None, None, 8]
    first = read_windows(fields(**four, **slides), lambda layer, limit: layer < limit)
    assert first == [8, 8, 8, None]


def test_experts() -> None:
    sizes = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    assert mixture(fields(**sizes), scale=2.0) == MoeConfig(8, 2, 48, scale=2.0)
    saved = {"num_local_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    assert mixture(fields(**saved)) == MoeConfig(8, 2, 48)
    assert mixture(fields(), counts=4, chosens=3, widths=2) == MoeConfig(4, 3, 2)
    assert local_experts(fields(num_local_experts=4), chosens=1) == MoeConfig(4, 1, 96)
    with pytest.raises(ConfigError, match=r"num_experts_per_tok is 9, expected .* from 1 to 8"):
        mixture(fields(**sizes | {"num_experts_per_tok": 9}))
    with pytest.raises(ConfigError, match="num_local_experts is missing"):
        mixture(fields())


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        (None, (0.0, math.inf)),
        ([0.0, 1], (0.0, 1.0)),
        ([0.5, {"__float__": "Infinity"}], (0.5, math.inf)),
        ([0, 3.5e38], (0.0, math.inf)),
    ],
)
def test_bounds_of_time_steps(value: Any, limits: tuple[float, float]) -> None:
    assert time_limits(fields(time_step_limit=value)) == limits


@pytest.mark.parametrize("value", [[0.0], 1.0, [1.0, 0.0], [-1.0, 0.0], [True, 1.0], ["a", 1.0]])
def test_bounds_that_cannot_be(value: Any) -> None:
    with pytest.raises(ConfigError, match="two numbers from 0 on, the least first"):
        time_limits(fields(time_step_limit=value))


def test_a_state_space() -> None:
    sizes: dict[str, Any] = {"head_dim": 8, "state": 16, "min_step": 0.0, "max_step": 1.0}
    config = state_space(fields(n_groups=2, use_bias=True, use_conv_bias=False), heads=4, **sizes)
    assert config == SsmConfig(4, 8, 2, 16, 4, 0.0, 1.0, 2, bias=True, conv_bias=False)
    with pytest.raises(ConfigError, match="n_groups is 3, expected a divisor of 4 heads"):
        state_space(fields(n_groups=3), heads=4, **sizes)


def test_quantization_is_read_from_either_name() -> None:
    spelt = {"group_size": 64, "bits": 4, "a.b": {"group_size": 32, "bits": 8}, "c": False}
    oracle = Quantization(Stored(64, 4), {"a.b": Stored(32, 8), "c": None})
    for name in ("quantization", "quantization_config"):
        assert configure(LLAMA | {name: spelt}).quantization == oracle


@pytest.mark.parametrize(
    ("written", "oracle"),
    [
        (None, Quantization()),
        ({}, Quantization()),
        ({"quant_method": None, "modules_to_not_convert": ["a"]}, Quantization()),
        ({"a": {"bits": 8}, "b": True}, Quantization(None, {"a": Stored(64, 8), "b": None})),
        ({"group_size": 32, "bits": 4, "mode": "mxfp4"}, Quantization(Stored(32, 4, "mxfp4"))),
        ({"group_size": 16, "bits": 4, "mode": "nvfp4"}, Quantization(Stored(16, 4, "nvfp4"))),
        (
            {"group_size": 64, "bits": 3, "a": True},
            Quantization(Stored(64, 3), {"a": Stored(64, 3)}),
        ),
        (  # MLX's own defaults, and what other tools write of modules that they leave as they are
            {
                "group_size": 32,
                "bits": 4,
                "mode": "mxfp4",
                "a": {"bits": 8},
                "b": {"bits": 16, "data_type": "float"},
                "c": "bfloat16",
                "d": {"mode": "nvfp4"},
                "modules_to_not_convert": ["e"],
                "quant_method": None,
            },
            Quantization(
                Stored(32, 4, "mxfp4"),
                {"a": Stored(64, 8), "b": None, "c": None, "d": Stored(16, 4, "nvfp4")},
            ),
        ),
        ({"quant_method": "mxfp4", "exclude_modules": ["a"]}, Quantization(method="mxfp4")),
        ({"quant_method": "fp8"}, Quantization(method="fp8")),
        (
            {"quant_method": "fp8", "weight_block_size": [64, 32]},
            Quantization(method="fp8", block=(64, 32)),
        ),
        (
            {"quant_method": "fp8", "weight_block_size": None},
            Quantization(method="fp8", block=None),
        ),
    ],
)
def test_layouts_of_quantized_checkpoints(written: Any, oracle: Quantization) -> None:
    config = fields(quantization_config=written)
    assert read_quantization(config) == oracle


def test_quantization_may_be_of_the_text_side() -> None:
    written = {"group_size": 32, "bits": 4}
    inner = fields(text_config={"quantization": written})
    assert read_quantization(inner) == Quantization(Stored(32, 4))
    both = fields(text_config={"quantization": written}, quantization=written | {"bits": 8})
    assert read_quantization(both) == Quantization(Stored(32, 8))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"quant_algo": "NVFP4"}, "quant_algo is 'NVFP4'"),
        ({"quant_method": "fp8", "weight_block_size": [1]}, "expected two whole numbers"),
        ({"group_size": 64, "bits": 4, "mode": "mxfp8"}, "group_size is 64, expected 32"),
        ({"group_size": 64, "bits": 9}, "bits is 9, expected one of 2, 3, 4, 5, 6, 8"),
    ],
)
def test_layouts_that_are_not_read(written: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_quantization(fields(quantization_config=written))
