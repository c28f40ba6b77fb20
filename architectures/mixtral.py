"""Mixtral: experts on every layer, whose weights add up to 1."""

from .config import BlockNames, ModelConfig
from .fields import Fields
from .read import META, alike, attention, decoder, local_experts, read_window, rms

EXPERTS = BlockNames(feed_forward="block_sparse_moe")


def configure(fields: Fields) -> ModelConfig:
    fields.assume(
        num_key_value_heads=8, rms_norm_eps=1e-5, rope_theta=1e6, max_position_embeddings=131_072
    )
    experts = local_experts(fields, counts=8, chosens=2, widths=14_336)
    mixer = attention(fields, window=read_window(fields))
    return decoder(fields, alike(fields, mixer, experts, EXPERTS), rms(fields), renames=META)
