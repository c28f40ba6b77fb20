"""Granite 3 with experts."""

from typing import Any

from .config import BlockNames, ModelConfig
from .feed_forward_config import MoeConfig
from .fields import Fields
from .granite import MLX_LM, multipliers, scaled
from .read import alike, decoder, local_experts, rms

MODULE = "block_sparse_moe"
RENAMES = (
    (rf"\.{MODULE}\.input_linear\.", f".{MODULE}.experts.gate_up_proj."),
    (rf"\.{MODULE}\.output_linear\.", f".{MODULE}.experts.down_proj."),
    (rf"\.{MODULE}\.router\.weight", f".{MODULE}.router.layer.weight"),
)


def configure(fields: Fields) -> ModelConfig:
    blocks = alike(fields, scaled(fields), routed(fields), BlockNames(feed_forward=MODULE))
    return decoder(
        fields, blocks, rms(fields), renames=RENAMES, mlx_lm=MLX_LM, **multipliers(fields)
    )


def routed(fields: Fields, **different: Any) -> MoeConfig:
    """Read experts whose weights add up to 1."""
    sizes = {"counts": 8, "chosens": 2, "widths": 11_008}
    return local_experts(fields, router="router.layer", **sizes, **different)
