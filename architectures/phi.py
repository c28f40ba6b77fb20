"""Phi 1, 1.5 and 2: both parts of a block in parallel, partial rotary positions, biases."""

from .config import PARALLEL, ModelConfig, NormConfig
from .feed_forward_config import MlpConfig
from .fields import Fields
from .read import alike, attention, decoder, read_activation


def configure(fields: Fields) -> ModelConfig:
    fields.assume(intermediate_size=8192, partial_rotary_factor=0.5)
    fields.expect("qk_layernorm", False)
    mixer = attention(fields, bias=True, output_bias=True, output="dense")
    feed_forward = MlpConfig(
        fields.integer("intermediate_size"),
        read_activation(fields, "gelu_new"),
        gated=False,
        bias=True,
        up="fc1",
        down="fc2",
    )
    return decoder(
        fields,
        alike(fields, mixer, feed_forward, PARALLEL),
        NormConfig(fields.number("layer_norm_eps", 1e-5), "layer", bias=True),
        final_norm="final_layernorm",
        head_bias=True,
    )
