"""Gemma 4: layers that see all have larger heads, and the last layers reuse keys and values."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .config import SANDWICH, BlockConfig, ModelConfig, SharingConfig
from .feed_forward_config import FeedForwardConfig, MlpConfig, ParallelConfig
from .fields import Fields
from .gemma import TANH, assume
from .gemma3 import BARE, with_senses
from .read import FULL, SLIDING, mixture, read_activation, read_window, windowed
from .rope import read_rope
from .sharing import around, sources, unused_kv
from .storage import MlxLm

PLACES = replace(SANDWICH, factor="layer_scalar")
MLX_LM = MlxLm(experts="experts.switch_glu")
ROPES = {
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
}


def configure(fields: Fields) -> ModelConfig:
    if fields.get("model_type") == "gemma4":
        return with_senses(fields, text)
    return text(fields, renames=BARE)


def text(fields: Fields, *, unused: tuple[str, ...] = (), **different: Any) -> ModelConfig:
    _assume(fields)
    # Images are seen in both directions, texts are not.
    fields.choice("use_bidirectional_attention", ("vision",), "vision")
    mixers = _mixers(fields)
    blocks = [BlockConfig(each, _feed_forward(fields, each), PLACES) for each in mixers]
    unused = (*unused, *unused_kv(mixers))
    return around(fields, blocks, unused=unused, mlx_lm=MLX_LM, **different)


def _assume(fields: Fields) -> None:
    """Assume what a config within another leaves out."""
    assume(
        fields,
        vocab_size=262_144,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=30,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=131_072,
        sliding_window=512,
        rope_parameters=ROPES,
    )


def _mixers(fields: Fields) -> list[SharingConfig]:
    kinds = windowed(fields, 6)
    kinds[-1] = FULL  # transformers has it so, whatever the config says
    windows = {SLIDING: read_window(fields), FULL: None}
    biased, reused = fields.flag("attention_bias", False), fields.flag("attention_k_eq_v", False)
    kv_sources = sources(fields, kinds)
    return [
        SharingConfig(
            fields.integer("num_attention_heads"),
            kv_heads,
            dim,
            read_rope(fields, dim, layers=kinds[layer]),
            windows[kinds[layer]],
            biased,
            keys_as_values=reused and kinds[layer] == FULL,
            source=kv_sources[layer],
            shares_kv=kv_sources[layer] == layer,
        )
        for layer, (kv_heads, dim) in enumerate(_sizes(fields, kinds, reused))
    ]


def _sizes(fields: Fields, kinds: Sequence[str], reused: bool) -> list[tuple[int, int]]:
    """Read each layer's key heads and their size; transformers 5 saves how layers differ."""
    heads, dim = fields.integer("num_key_value_heads"), fields.integer("head_dim")
    few = fields.integer("num_global_key_value_heads", heads)
    wide = {
        "head_dim": fields.integer("global_head_dim", 512),
        "num_key_value_heads": few if reused else heads,
    }
    seeing_all = [str(layer) for layer, kind in enumerate(kinds) if kind == FULL]
    fields.assume(per_layer_config=dict.fromkeys(seeing_all, wide))
    table = fields.table("per_layer_config")
    sizes = {int(name): table.table(name) for name in table.raw if name.isdecimal()}
    none = Fields({})
    return [
        (layer.integer("num_key_value_heads", heads), layer.integer("head_dim", dim, maximum=4096))
        for layer in (sizes.get(number, none) for number in range(len(kinds)))
    ]


def _feed_forward(fields: Fields, mixer: SharingConfig) -> FeedForwardConfig:
    activation = read_activation(fields, TANH, "hidden_activation")
    twice = fields.flag("use_double_wide_mlp", False) and mixer.reuses_kv
    dense = MlpConfig(fields.integer("intermediate_size") * (1 + twice), activation)
    fields.ignore("num_experts", "top_k_experts", "moe_intermediate_size")
    if not fields.flag("enable_moe_block", False):
        return dense
    experts = mixture(fields, chosen="top_k_experts", activation=activation, router="router.proj")
    return ParallelConfig(dense, experts)
