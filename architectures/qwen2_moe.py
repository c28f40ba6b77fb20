"""Qwen 1.5 and 2 with experts, and a shared one that a gate lets through in part."""

from typing import Any

from .config import BlockConfig, ModelConfig
from .feed_forward_config import MoeConfig
from .fields import Fields
from .qwen3_moe import sparse
from .read import attention, decoder, mixture, mlp, read_windows, rms


def configure(fields: Fields) -> ModelConfig:
    fields.assume(intermediate_size=5632, max_position_embeddings=32_768)
    normalise = fields.flag("norm_topk_prob", False)
    experts = with_shared(fields, 5632, counts=60, chosens=4, widths=1408, normalise=normalise)
    chosen, biased = sparse(fields), fields.flag("qkv_bias", True)
    # every second layer of the first ones, where Qwen 2 has all but the first ones
    windows = read_windows(fields, lambda layer, limit: layer < limit and layer % 2 == 0)
    blocks = [
        BlockConfig(
            attention(fields, window=window, bias=biased),
            experts if layer in chosen else mlp(fields),
        )
        for layer, window in enumerate(windows)
    ]
    return decoder(fields, blocks, rms(fields))


def with_shared(fields: Fields, width: int, **different: Any) -> MoeConfig:
    """Read experts and a gated shared one, of this width if the config says none."""
    return mixture(
        fields,
        shared_width=fields.integer("shared_expert_intermediate_size", width),
        shared_gate=True,
        shared="shared_expert",
        **different,
    )
