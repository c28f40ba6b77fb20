"""OLMo 3: OLMo 2 with windows, whose layers keep their positions where the others are scaled."""

from dataclasses import replace

from .config import ModelConfig
from .fields import Fields
from .olmo2 import mixer, normed_after
from .read import FULL, SLIDING, needed_window, windowed
from .rope import read_local, read_rope


def configure(fields: Fields) -> ModelConfig:
    fields.assume(rope_theta=500_000.0, sliding_window=4096)
    whole = mixer(fields, rope=None)
    local = read_local(fields, whole.head_dim, fields.number("rope_theta"), SLIDING)
    own = {
        FULL: replace(whole, rope=read_rope(fields, whole.head_dim, layers=FULL)),
        SLIDING: replace(whole, rope=local, window=needed_window(fields)),
    }
    return normed_after(fields, [own[kind] for kind in windowed(fields, 4)])
