"""Vendor spellings that mean one thing, and values that are refused by name."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings, strategies

from bessemer.architectures.config import ConfigError, ModelConfig, Paged, Rope
from bessemer.architectures.layers.rope import Rotary
from bessemer.architectures.registry import configure

from .parity import Golden
from .tiny import BASE, LLAMA3, YARN

LLAMA = BASE | {"model_type": "llama"}
MISTRAL = BASE | {"model_type": "mistral"}
QWEN2 = BASE | {"model_type": "qwen2"}
QWEN3 = BASE | {"model_type": "qwen3"}


def rope(raw: dict[str, Any]) -> Rope:
    """Return the rope that all layers share."""
    (shared,) = configure(raw).ropes
    return shared


def windows(config: ModelConfig) -> tuple[int | None, ...]:
    """Return each layer's window."""
    return tuple(cache.window for cache in config.caches if isinstance(cache, Paged))


def test_defaults_are_those_of_transformers() -> None:
    bare = {
        key: BASE[key]
        for key in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
        )
    }
    llama = configure(bare | {"model_type": "llama"})
    assert llama.caches == (Paged(4, 16, 16),) * 2
    assert (llama.ropes, llama.tied, llama.context) == ((Rope(16, 10_000.0),), False, 2048)
    assert llama.norm.eps == 1e-6
    long = bare | {"max_position_embeddings": 8192, "num_key_value_heads": 2}
    assert windows(configure(long | {"model_type": "mistral"})) == (4096, 4096)
    assert configure(bare | {"model_type": "qwen3"}).caches == (Paged(4, 128, 128),) * 2


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("llama_llama3", {96}),  # the feed-forward layer's
        ("deepseek_v2_lite_yarn", {4 * (32 + 8)}),  # each head's query in a latent's terms
        ("qwen3_next_shared_keys", {2 * 2 * 16 + 4 * 24, 3 * 32 + 48}),
        ("mamba2_groups", {4 * 32 + 2 * 2 * 16}),
        ("lfm2_adjusted_tied", {3 * 64, 112}),
        ("gemma4_experts_keys_as_values", {96 + 2 * 32}),  # two layers side by side
        ("gemma4_per_layer_lending", {96, 4 * 32, 192}),
    ],
)
def test_the_widest_row_of_a_block(name: str, widths: set[int]) -> None:
    assert {block.row_width for block in configure(Golden.read(name).config).blocks} == widths


REFUSED: list[tuple[dict[str, Any], str]] = [
    (LLAMA | {"hidden_act": "tanh"}, "hidden_act is 'tanh'"),
    (LLAMA | {"qk_layernorm": True}, "qk_layernorm is True"),
    (LLAMA | {"logits_scaling": 8.0}, "logits_scaling is 8.0"),
    (LLAMA | {"rope_scaling": LLAMA3 | {"mystery": 2}}, "rope_scaling.mystery is 2"),
    (LLAMA | {"hidden_size": None}, "hidden_size is missing"),
    (LLAMA | {"hidden_size": "64"}, "hidden_size is '64'"),
    (LLAMA | {"hidden_size": True}, "hidden_size is True"),
    (LLAMA | {"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    (LLAMA | {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    (LLAMA | {"num_attention_heads": 5}, "num_attention_heads is 5"),
    (LLAMA | {"num_key_value_heads": 3}, "num_key_value_heads is 3"),
    (LLAMA | {"head_dim": 15}, "head_dim is 15"),
    (LLAMA | {"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
    (LLAMA | {"tie_word_embeddings": 1}, "tie_word_embeddings is 1"),
    (LLAMA | {"rope_theta": 1.0}, "rope_theta is 1.0"),
    (LLAMA | {"rope_scaling": []}, "rope_scaling is []"),
    (LLAMA | {"rope_scaling": {"type": "ntk", "factor": 2}}, "rope_scaling.type is 'ntk'"),
    (
        LLAMA | {"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0]}},
        "rope_parameters.short_factor is [1.0], expected 8 positive numbers",
    ),
    (LLAMA | {"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is missing"),
    (LLAMA | {"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}}, "high_freq_factor is 1.0"),
    (LLAMA | {"rope_parameters": {"full_attention": {"rope_theta": 2.0}}}, "rope_parameters is"),
    (LLAMA | {"partial_rotary_factor": 0.7}, "partial_rotary_factor is 0.7"),
    (LLAMA | {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types is"),
    (LLAMA | {"quantization": {"group_size": 64, "bits": 7}}, "quantization.bits is 7"),
    (LLAMA | {"quantization": {"group_size": 16, "bits": 4}}, "quantization.group_size is 16"),
    (
        LLAMA | {"quantization": {"group_size": 64, "bits": 4, "mode": "mxfp4"}},
        "quantization.group_size is 64",
    ),
    (LLAMA | {"quantization": {"group_size": 32, "bits": 4, "a": {"bits": 7}}}, "quantization.a."),
    (LLAMA | {"quantization_config": {"quant_method": "awq"}}, "quant_method is 'awq'"),
    (MISTRAL | {"sliding_window": -1}, "sliding_window is -1"),
    (
        MISTRAL | {"sliding_window": None, "layer_types": ["full_attention", "sliding_attention"]},
        "layer_types is",
    ),
    (
        QWEN2 | {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["chunked"] * 2},
        "layer_types is ['chunked', 'chunked']",
    ),
    (
        QWEN3 | {"use_sliding_window": True, "sliding_window": 8, "layer_types": [{}, []]},
        "layer_types is",
    ),
]


@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_refusals_name_the_field_and_the_value(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^config\.json: ") as caught:
        configure(config)
    assert message in str(caught.value)


JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.just(10**400)
    | strategies.text(max_size=8)
    | strategies.sampled_from(["yarn", "llama3", "linear", "rope_type", "sliding_attention"]),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=3)
    ),
)
NAMES = sorted({*BASE, "quantization", "quantization_config", "partial_rotary_factor", "head_dim"})


@settings(max_examples=300, deadline=None)
@given(
    strategies.sampled_from([LLAMA, MISTRAL, QWEN2, QWEN3]), strategies.sampled_from(NAMES), JSON
)
def test_any_value_of_any_field_is_read_or_refused(
    base: dict[str, Any], field: str, value: object
) -> None:
    with contextlib.suppress(ConfigError):
        configure(base | {field: value})


@settings(max_examples=300, deadline=None)
@given(strategies.sampled_from([*LLAMA3, *YARN, "beta_fast", "beta_slow", "mscale"]), JSON)
def test_any_value_of_any_rope_field_is_read_or_refused(field: str, value: object) -> None:
    for scaling in (LLAMA3, YARN):
        with contextlib.suppress(ConfigError):
            Rotary.of(rope(LLAMA | {"rope_scaling": scaling | {field: value}}))


def test_what_is_harmless_is_not_read() -> None:
    bookkeeping = {"torch_dtype": "bfloat16", "use_cache": True, "eos_token_id": [1, 2]}
    assert configure(LLAMA | bookkeeping | {"unheard_of": None}) == configure(LLAMA)
