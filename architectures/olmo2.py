"""OLMo 2: norms after both parts of a block, and of all queries and all keys as one vector."""

from collections.abc import Sequence
from typing import Any

from .config import POST, AttentionConfig, BlockConfig, ModelConfig
from .fields import Fields
from .read import attention, biases, decoder, layer_count, mlp, rms


def configure(fields: Fields) -> ModelConfig:
    return normed_after(fields, [mixer(fields)] * layer_count(fields))


def mixer(fields: Fields, **different: Any) -> AttentionConfig:
    return attention(fields, qk_norm="all", **biases(fields), **different)


def normed_after(fields: Fields, mixers: Sequence[AttentionConfig]) -> ModelConfig:
    """Return the model of these mixers, with norms after each part."""
    blocks = [BlockConfig(each, mlp(fields), POST) for each in mixers]
    return decoder(fields, blocks, rms(fields, 1e-5))
