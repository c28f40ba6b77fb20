"""Phi 3, 3.5 and 4: fused projections, and a divisor for each rotary dimension."""

from .config import ModelConfig
from .fields import Fields
from .read import alike, attention, decoder, mlp, read_window, rms
from .rope import ORIGINAL


def configure(fields: Fields) -> ModelConfig:
    fields.assume(rms_norm_eps=1e-5, max_position_embeddings=4096, **{ORIGINAL: 4096})
    for name in ("full_attn_mod", "interpolate_factor"):  # Phi 4's own code has more of them
        fields.expect(name, 1)
    mixer = attention(fields, window=read_window(fields))
    return decoder(fields, alike(fields, mixer, mlp(fields)), rms(fields))
