"""Qwen 1.5 and 2 with experts, beside one that every token takes as far as a gate lets it."""

from .config import BlockConfig, ModelConfig
from .fields import Fields
from .qwen3_moe import sparse
from .read import attention, decoder, mixture, mlp, read_windows, rms


def configure(fields: Fields) -> ModelConfig:
    fields.assume(intermediate_size=5632, max_position_embeddings=32_768)
    experts = mixture(
        fields,
        counts=60,
        chosens=4,
        widths=1408,
        normalise=fields.flag("norm_topk_prob", False),
        shared_width=fields.integer("shared_expert_intermediate_size", 5632),
        shared_gate=True,
        shared="shared_expert",
    )
    chosen, biased = sparse(fields), fields.flag("qkv_bias", True)
    # every second layer of the first ones, where Qwen 2 has all but the first ones
    windows = read_windows(fields, lambda layer, most: layer < most and layer % 2 == 0)
    blocks = [
        BlockConfig(
            attention(fields, window=window, bias=biased),
            experts if layer in chosen else mlp(fields),
        )
        for layer, window in enumerate(windows)
    ]
    return decoder(fields, blocks, rms(fields))
