"""Gemma 3n: streams of hidden states, sparse gates, and last layers that reuse keys and values."""

from statistics import NormalDist
from typing import Any

from .config import SANDWICH, AltUpConfig, BlockConfig, ModelConfig, SharingConfig
from .feed_forward_config import MlpConfig
from .fields import Fields
from .gemma import TANH, assume
from .gemma3 import BARE, ropes, with_senses
from .read import FULL, SLIDING, layer_count, read_activation, read_window, windowed
from .sharing import around, sources, unused_kv
from .storage import MlxLm

SCALE = r".*\.altup\.correct_output_scale$"  # stored, whether it is used or not
# mlx_lm has layers that reuse keys and values load projections for them all the same.
MLX_LM = MlxLm(unused=r"model\.language_model\.", dense=r".*\.altup\.\w+")


def configure(fields: Fields) -> ModelConfig:
    if fields.get("model_type") == "gemma3n_text":
        return text(fields, renames=BARE)
    return with_senses(fields, text, model="model.language_model", head="lm_head", renames=())


def text(fields: Fields, *, unused: tuple[str, ...] = (), **different: Any) -> ModelConfig:
    _assume(fields)
    # Of training, and of a scale that attention does not have.
    fields.ignore("altup_coef_clip", "altup_lr_multiplier", "query_pre_attn_scalar")
    fields.integer("hidden_size_per_layer_input", 256)  # there is no model without
    mixers = _mixers(fields)
    blocks = [
        BlockConfig(mixer, feed_forward, SANDWICH)
        for mixer, feed_forward in zip(mixers, _feed_forwards(fields), strict=True)
    ]
    unused = (*unused, *unused_kv(mixers), SCALE)
    return around(fields, blocks, altup=_altup(fields), unused=unused, mlx_lm=MLX_LM, **different)


def _assume(fields: Fields) -> None:
    assume(
        fields,
        vocab_size=262_400,
        hidden_size=2048,
        intermediate_size=16_384,
        num_hidden_layers=35,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        sliding_window=512,
        final_logit_softcapping=30.0,
        num_kv_shared_layers=15,
    )


def _mixers(fields: Fields) -> list[SharingConfig]:
    kinds = windowed(fields, 5)
    windows, rope_of = {SLIDING: read_window(fields), FULL: None}, ropes(fields)
    biased, kv_sources = fields.flag("attention_bias", False), sources(fields, kinds)
    return [
        SharingConfig(
            fields.integer("num_attention_heads"),
            fields.integer("num_key_value_heads"),
            fields.integer("head_dim"),
            rope_of[kind],
            windows[kind],
            biased,
            source=kv_sources[layer],
            shares_kv=kv_sources[layer] == layer,
        )
        for layer, kind in enumerate(kinds)
    ]


def _feed_forwards(fields: Fields) -> list[MlpConfig]:
    activation = read_activation(fields, TANH, "hidden_activation")
    return [
        MlpConfig(width, activation, cut=NormalDist().inv_cdf(share) if share else None)
        for width, share in zip(_widths(fields), _sparsities(fields), strict=True)
    ]


def _widths(fields: Fields) -> list[int]:
    """Read one width for all layers, or one for each."""
    name, layers = "intermediate_size", layer_count(fields)
    value = fields.get(name)
    if not isinstance(value, list):
        return [fields.integer(name)] * layers
    if len(value) != layers or not all(type(width) is int and width > 0 for width in value):
        raise fields.refuse(name, f"a positive whole number, or {layers} of them")
    return value


def _sparsities(fields: Fields) -> list[float]:
    """Read the share of each layer's gates that are cut; by default the first ten have one."""
    name, layers = "activation_sparsity_pattern", layer_count(fields)
    if name not in fields:
        return [0.95 if layers > 10 and layer < 10 else 0.0 for layer in range(layers)]
    value = fields.get(name)
    known = isinstance(value, list) and all(type(share) in (int, float) for share in value)
    if not known or len(value) != layers or not all(0 <= share < 1 for share in value):
        raise fields.refuse(name, f"{layers} numbers from 0 to less than 1")
    return list(value)


def _altup(fields: Fields) -> AltUpConfig:
    streams = fields.integer("altup_num_inputs", 4, minimum=2, maximum=64)
    return AltUpConfig(
        streams,
        fields.integer("altup_active_idx", 0, minimum=0, maximum=streams - 1),
        fields.integer("laurel_rank", 64),
        fields.flag("altup_correct_scale", True),
    )
