"""OLMo 3: OLMo 2 with windows, whose layers keep their positions where the others are scaled."""

from dataclasses import replace

from .config import ModelConfig
from .fields import Fields
from .olmo2 import mixer, normed_after
from .read import FULL, SLIDING, needed_window, windowed
from .rope import read_local, read_rope


def configure(fields: Fields) -> ModelConfig:
    fields.assume(rope_theta=500_000.0, sliding_window=4096)
    usual = mixer(fields, rope=None)
    local = read_local(fields, usual.head_dim, fields.number("rope_theta"), SLIDING)
    mixers = {
        FULL: replace(usual, rope=read_rope(fields, usual.head_dim, layers=FULL)),
        SLIDING: replace(usual, rope=local, window=needed_window(fields)),
    }
    return normed_after(fields, [mixers[kind] for kind in windowed(fields, 4)])
