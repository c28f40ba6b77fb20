"""What Gemma 3n and 4 have alike: layers that share keys and values, embeddings for each layer."""

from collections.abc import Sequence
from typing import Any

from .config import BlockConfig, ModelConfig, PerLayerConfig, SharingConfig
from .fields import Fields
from .gemma import TANH
from .read import decoder, read_activation, rms


def sources(fields: Fields, kinds: Sequence[str]) -> list[int | None]:
    """Return for each layer the block whose keys and values it takes, if several take these.

    The last layers take those of the last one before them that is of their kind.
    """
    name = "num_kv_shared_layers"
    first = len(kinds) - fields.integer(name, 0, minimum=0, maximum=len(kinds) - 1)
    last = {kind: layer for layer, kind in enumerate(kinds[:first])}
    if not set(kinds[first:]) <= set(last):
        raise fields.refuse(name, "layers of each kind before those that share")
    shared = {last[kind] for kind in kinds[first:]}
    return [
        last[kind] if layer >= first or layer in shared else None
        for layer, kind in enumerate(kinds)
    ]


def unused_kv(mixers: Sequence[SharingConfig]) -> tuple[str, ...]:
    """Return patterns of tensors that checkpoints have for layers which reuse keys and values."""
    layers = "|".join(str(layer) for layer, mixer in enumerate(mixers) if mixer.reuses_kv)
    return (rf".*\.layers\.({layers})\.self_attn\.(k_proj|v_proj|k_norm)\.",) if layers else ()


def around(fields: Fields, blocks: Sequence[BlockConfig], **different: Any) -> ModelConfig:
    """Return the model of these blocks."""
    return decoder(
        fields,
        blocks,
        rms(fields),
        embed_scale=fields.integer("hidden_size") ** 0.5,
        logit_softcap=fields.optional("final_logit_softcapping"),
        per_layer=_per_layer(fields),
        **different,
    )


def _per_layer(fields: Fields) -> PerLayerConfig | None:
    width = fields.integer("hidden_size_per_layer_input", 256, minimum=0)
    size = fields.integer("vocab_size_per_layer_input", 262_144)
    activation = read_activation(fields, TANH, "hidden_activation")
    return PerLayerConfig(size, width, activation) if width else None
