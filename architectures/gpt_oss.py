"""gpt-oss: attention with sinks, every other layer in a window, and experts with biases."""

from .config import BlockConfig, ModelConfig
from .fields import Fields
from .read import (
    FULL,
    SLIDING,
    attention,
    biases,
    decoder,
    local_experts,
    read_window,
    rms,
    windowed,
)
from .storage import MlxLm

# transformers' default, where a config says nothing of rotary positions.
YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


def configure(fields: Fields) -> ModelConfig:
    fields.assume(
        num_key_value_heads=8, max_position_embeddings=131_072, rope_theta=150_000.0, head_dim=64
    )
    if "rope_scaling" not in fields:
        fields.assume(rope_parameters=YARN)
    fields.ignore("experts_per_token", "initial_context_length")  # said twice
    biased = biases(fields, True)
    kinds = windowed(fields, 2)
    windows = {FULL: None, SLIDING: read_window(fields, default=128)}
    mixers = {
        kind: attention(fields, sinks=True, window=window, **biased)
        for kind, window in windows.items()
    }
    experts = local_experts(
        fields,
        counts=128,
        chosens=4,
        widths=2880,
        activation="swiglu_clamped",
        limit=fields.number("swiglu_limit", 7.0),
        bias=True,
        router="router",
        router_bias=True,
        alternating=True,
        transposed=True,
    )
    fields.expect("swiglu_alpha", 1.702)
    blocks = [BlockConfig(mixers[kind], experts) for kind in kinds]
    return decoder(fields, blocks, rms(fields, 1e-5), mlx_lm=MlxLm(experts="experts"))
