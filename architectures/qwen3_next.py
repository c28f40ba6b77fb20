"""Qwen3-Next: gated delta nets, gated attention in every fourth layer, and many small experts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .config import BlockConfig, BlockNames, DeltaConfig, ModelConfig
from .feed_forward_config import FeedForwardConfig
from .fields import Fields
from .qwen2_moe import with_shared
from .qwen3_moe import sparse
from .read import FULL, attention, biases, decoder, layer_count, layer_kinds, mlp, rms
from .rope import read_rope
from .storage import MlxLm

LINEAR = "linear_attention"
DELTA = BlockNames(mixer="linear_attn")
FURTHER = r"(language_model\.)?(model\.)?mtp\."  # layers that predict further tokens
# What mlx_lm transposes and adds by itself only if experts are stored one by one.
MLX_LM = MlxLm(
    rules=(
        (r".+\.conv1d\.weight", "convolution"),
        (r"(.+layernorm|.+\.[qk]_norm|model\.norm)\.weight", "norm"),
    )
)


def configure(fields: Fields) -> ModelConfig:
    fields.assume(intermediate_size=5632, num_attention_heads=16, num_key_value_heads=2)
    dense = mlp(fields)
    normalise, sparsely = fields.flag("norm_topk_prob", True), sparse(fields)
    experts = with_shared(fields, 512, counts=512, chosens=10, widths=512, normalise=normalise)
    layers = range(layer_count(fields))
    feed_forwards = [experts if layer in sparsely else dense for layer in layers]
    return hybrid(fields, feed_forwards, mlx_lm=MLX_LM)


def hybrid(
    fields: Fields,
    feed_forwards: Sequence[FeedForwardConfig],
    model: str = "model",
    **different: Any,
) -> ModelConfig:
    """Return the model of blocks of both kinds, one around each of these feed-forward layers."""
    fields.assume(head_dim=256, max_position_embeddings=32_768)
    fields.expect("hidden_act", "silu")  # the convolution's too
    fields.expect("attn_output_gate", True)
    fields.choice("output_gate_type", ("silu", "swish"), "silu")
    softmax = attention(
        fields,
        rope=read_rope(fields, fields.integer("head_dim"), share=0.25),
        qk_norm="head",
        gated=True,
        **biases(fields),
    )
    every = fields.integer("full_attention_interval", 4)
    usual = (FULL, LINEAR)
    kinds = layer_kinds(fields, usual, lambda layer: LINEAR if (layer + 1) % every else FULL)
    delta = _delta(fields)
    blocks = [
        BlockConfig(softmax, feed_forward)
        if kind == FULL
        else BlockConfig(delta, feed_forward, DELTA)
        for kind, feed_forward in zip(kinds, feed_forwards, strict=True)
    ]
    first = next((layer for layer, kind in enumerate(kinds) if kind == LINEAR), None)
    mark = None if first is None else f"{model}.layers.{first}.linear_attn.conv1d.weight"
    norm = replace(rms(fields, zero_centred=True), conversion_mark=mark)
    return decoder(fields, blocks, norm, **({"model": model, "unused": (FURTHER,)} | different))


def _delta(fields: Fields) -> DeltaConfig:
    keys = fields.integer("linear_num_key_heads", 16)
    heads = fields.integer("linear_num_value_heads", 32)
    if heads % keys:
        raise fields.refuse("linear_num_value_heads", f"a multiple of {keys} heads of keys")
    return DeltaConfig(
        keys,
        heads,
        fields.integer("linear_key_head_dim", 128),
        fields.integer("linear_value_head_dim", 128),
        fields.integer("linear_conv_kernel_dim", 4, minimum=2, maximum=8),
    )
