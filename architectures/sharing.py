"""What Gemma 3n and 4 share: layers that lend keys and values, and embeddings for each layer."""

from collections.abc import Sequence
from typing import Any

from .config import BlockConfig, ModelConfig, PerLayerConfig, SharingConfig
from .fields import Fields
from .gemma import TANH
from .read import decoder, read_activation, rms


def sources(fields: Fields, kinds: Sequence[str]) -> list[int | None]:
    """Of each layer the block whose keys and values it takes, or its own number if it lends them.

    The last layers take those of the last one before them that is of their kind.
    """
    borrowers = fields.integer("num_kv_shared_layers", 0, minimum=0, maximum=len(kinds) - 1)
    first = len(kinds) - borrowers
    lenders = {kind: layer for layer, kind in enumerate(kinds[:first])}
    if not set(kinds[first:]) <= set(lenders):
        raise fields.refuse("num_kv_shared_layers", "layers of each kind before those that borrow")
    lent = {lenders[kind] for kind in kinds[first:]}
    return [
        lenders[kind] if layer >= first or layer in lent else None
        for layer, kind in enumerate(kinds)
    ]


def borrowed(mixers: Sequence[SharingConfig]) -> tuple[str, ...]:
    """The tensors that published checkpoints have for layers which do not use them."""
    layers = "|".join(str(layer) for layer, mixer in enumerate(mixers) if mixer.reuses_kv)
    return (rf".*\.layers\.({layers})\.self_attn\.(k_proj|v_proj|k_norm)\.",) if layers else ()


def around(fields: Fields, blocks: Sequence[BlockConfig], **different: Any) -> ModelConfig:
    """The model around its blocks."""
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
