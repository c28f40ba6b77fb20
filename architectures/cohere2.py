"""Command R7B and A: layers with a window have rotary positions, the others have none."""

from dataclasses import replace

from .cohere import in_parallel, mixer
from .config import ModelConfig
from .fields import Fields
from .read import FULL, SLIDING, needed_window, windowed

# What the first published configs also say, by names that only Cohere has.
BUILT = {
    "order_of_interleaved_layers": "local_attn_first",
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1.0,
    "use_embedding_sharing": True,
    "use_gated_activation": True,
    "use_parallel_block": True,
}


def configure(fields: Fields) -> ModelConfig:
    fields.assume(sliding_window=4096)
    for name, value in BUILT.items():
        fields.expect(name, value)
    # The pattern's other names, and how weights are spread over devices.
    fields.ignore("layer_switch", "_sliding_window_pattern", "use_parallel_embedding")
    every = fields.integer("sliding_window_pattern", 4)
    local = mixer(fields)
    if local.head_dim * local.heads != fields.integer("hidden_size"):
        raise fields.refuse("head_dim", "hidden_size / num_attention_heads")
    mixers = {
        FULL: replace(local, rope=None),
        SLIDING: replace(local, window=needed_window(fields)),
    }
    return in_parallel(fields, [mixers[kind] for kind in windowed(fields, every)])
