"""Phi 3.5 with experts: another kind of router, norms with a mean, biases as the config says."""

from dataclasses import replace

from .config import ModelConfig, NormConfig, Rope
from .fields import Fields
from .mixtral import EXPERTS
from .read import META, alike, attention, biases, decoder, local_experts, read_window
from .rope import scaling_of


def configure(fields: Fields) -> ModelConfig:
    fields.assume(num_key_value_heads=8, rope_theta=1e6, max_position_embeddings=131_072)
    fields.expect("num_experts_per_tok", 2)  # the router's scheme knows no other number
    experts = local_experts(
        fields,
        counts=16,
        chosens=2,
        widths=6400,
        scoring="sparsemixer",
        jitter=fields.number("router_jitter_noise", 0.01),
        normalise=False,
    )
    mixer = attention(fields, window=read_window(fields), **biases(fields))
    assert mixer.rope is not None
    mixer = replace(mixer, rope=_sized(fields, mixer.rope))
    return decoder(
        fields,
        alike(fields, mixer, experts, EXPERTS),
        NormConfig(fields.number("rms_norm_eps", 1e-5), "layer", bias=True),
        head_bias=fields.flag("lm_head_bias", False),
        renames=META,
    )


def _sized(fields: Fields, rope: Rope) -> Rope:
    """Add a scaled rope's attention factors, of short and of long sequences."""
    if rope.kind == "default":
        return rope
    scaling = scaling_of(fields)
    short, long = scaling.number("short_mscale"), scaling.number("long_mscale")
    return replace(rope, attention_factor=short, long_attention_factor=long)
