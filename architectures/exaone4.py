"""EXAONE 4: norms after both parts; windows by a pattern of letters, positions only there."""

from dataclasses import replace

from .config import ModelConfig
from .fields import Fields
from .olmo2 import normed_after
from .read import FULL, SLIDING, attention, layer_count, layer_kinds, read_window

LETTERS = {"L": SLIDING, "G": FULL}


def configure(fields: Fields) -> ModelConfig:
    fields.assume(num_key_value_heads=32, sliding_window=4096)
    mixer = attention(fields, qk_norm="head")
    fields.ignore("sliding_window_pattern")
    if "sliding_window" not in fields:  # then all layers know positions
        kinds = layer_kinds(fields, [FULL], lambda layer: FULL)
        return normed_after(fields, [mixer] * len(kinds))
    usual = _pattern(fields)
    kinds = layer_kinds(fields, (FULL, SLIDING), lambda layer: usual[layer])
    window = read_window(fields)
    mixers = {FULL: replace(mixer, rope=None), SLIDING: replace(mixer, window=window)}
    return normed_after(fields, [mixers[kind] for kind in kinds])


def _pattern(fields: Fields) -> list[str]:
    """Read letters that are repeated, or the distance from one layer that sees all to the next."""
    name, layers = "sliding_window_pattern", layer_count(fields)
    pattern = fields.get(name)
    if isinstance(pattern, str):
        if not pattern or set(pattern) - set(LETTERS):
            raise fields.refuse(name, "letters L and G")
        return [LETTERS[pattern[layer % len(pattern)]] for layer in range(layers)]
    every = fields.integer(name, 4)
    return [SLIDING if (layer + 1) % every else FULL for layer in range(layers)]
