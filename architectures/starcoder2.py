"""StarCoder 2: norms with a mean, a feed-forward layer without a gate, biases everywhere."""

from .config import ModelConfig, NormConfig
from .feed_forward_config import MlpConfig
from .fields import Fields
from .read import alike, attention, decoder, read_activation, read_window


def configure(fields: Fields) -> ModelConfig:
    fields.assume(
        num_key_value_heads=2,
        intermediate_size=12_288,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
    )
    fields.expect("norm_type", "layer_norm")
    fields.expect("mlp_type", "default")
    fields.expect("scale_attn_weights", True)
    # How exactly, and what norm_epsilon says.
    fields.ignore("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32")
    fields.ignore("layer_norm_epsilon")
    biased = fields.flag("use_bias", True)
    mixer = attention(fields, window=read_window(fields), bias=biased, output_bias=biased)
    feed_forward = MlpConfig(
        fields.integer("intermediate_size"),
        read_activation(fields, "gelu_pytorch_tanh"),
        gated=False,
        bias=biased,
        up="c_fc",
        down="c_proj",
    )
    norm = NormConfig(fields.number("norm_epsilon", 1e-5), "layer", bias=True)
    return decoder(fields, alike(fields, mixer, feed_forward), norm)
