"""Mixtral: experts on every layer, whose weights add up to 1."""

from .config import ModelConfig, Places
from .fields import Fields
from .read import alike, attention, decoder, mixture, read_window, rms

EXPERTS = Places(feed_forward="block_sparse_moe")
RENAMES = (
    (r"\.experts\.(\d+)\.w1\.", r".experts.\1.gate_proj."),
    (r"\.experts\.(\d+)\.w2\.", r".experts.\1.down_proj."),
    (r"\.experts\.(\d+)\.w3\.", r".experts.\1.up_proj."),
)


def configure(fields: Fields) -> ModelConfig:
    fields.assume(
        num_key_value_heads=8, rms_norm_eps=1e-5, rope_theta=1e6, max_position_embeddings=131_072
    )
    experts = mixture(
        fields,
        count="num_local_experts",
        counts=8,
        chosens=2,
        width="intermediate_size",
        widths=14_336,
    )
    mixer = attention(fields, window=read_window(fields))
    return decoder(fields, alike(fields, mixer, experts, EXPERTS), rms(fields), renames=RENAMES)
