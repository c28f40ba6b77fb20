"""GLM 4 of 2025: norms around both parts, interleaved rotary pairs in half of each head."""

from .config import BlockNames, ModelConfig
from .fields import Fields
from .read import alike, attention, decoder, mlp, rms

SANDWICH = BlockNames(
    after_mixer="post_self_attn_layernorm",
    before_feed_forward="post_attention_layernorm",
    after_feed_forward="post_mlp_layernorm",
)


def configure(fields: Fields) -> ModelConfig:
    fields.expect("rope_traditional", True)
    biased = fields.flag("attention_bias", True)
    mixer = attention(fields, head_dim=128, share=0.5, bias=biased, interleaved=True)
    return decoder(fields, alike(fields, mixer, mlp(fields), SANDWICH), rms(fields, 1.5625e-7))
