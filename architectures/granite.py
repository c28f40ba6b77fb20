"""Granite 3: Llama with multipliers of embeddings, scores, residuals and logits."""

from typing import Any

from .config import AttentionConfig, ModelConfig
from .fields import Fields
from .read import alike, attention, biases, decoder, mlp, rms
from .storage import MlxLm

MLX_LM = MlxLm(small=r".*\.(self_attn\.o_proj|mlp\.down_proj)|lm_head")


def configure(fields: Fields) -> ModelConfig:
    feed_forward = mlp(fields, bias=fields.flag("mlp_bias", False))
    blocks = alike(fields, scaled(fields), feed_forward)
    return decoder(fields, blocks, rms(fields), mlx_lm=MLX_LM, **multipliers(fields))


def scaled(fields: Fields, **different: Any) -> AttentionConfig:
    """Read attention whose scores are scaled as the config says."""
    fields.expect("activation_function", fields.get("hidden_act") or "silu")  # PowerMoE's
    scale = fields.number("attention_multiplier", 1.0)
    return attention(fields, scale=scale, **biases(fields), **different)


def multipliers(fields: Fields) -> dict[str, float]:
    """Read the multipliers that ModelConfig has."""
    return {
        "embed_scale": fields.number("embedding_multiplier", 1.0),
        "residual_scale": fields.number("residual_multiplier", 1.0),
        "logit_scale": 1 / fields.number("logits_scaling", 1.0),
    }
