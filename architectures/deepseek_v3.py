"""DeepSeek V3 and R1, and Kimi K2: a correction of the experts' scores chooses among them."""

from typing import Any

from .config import ModelConfig
from .deepseek_v2 import grouped, latent, mixed, routed
from .feed_forward_config import MoeConfig
from .fields import Fields
from .read import decoder, layer_count, rms
from .storage import MlxLm

MLX_LM = MlxLm(rules=((r"(.+\.self_attn)\.kv_b_proj\.weight", "latent"),))


def configure(fields: Fields) -> ModelConfig:
    experts = corrected(fields, 8, 4, counts=256, chosens=8, widths=2048, scale=2.5)
    mixer = latent(fields, interleaved=fields.flag("rope_interleave", True))
    blocks = mixed(fields, mixer, experts, first=3)
    return decoder(fields, blocks, rms(fields), unused=further(fields), mlx_lm=MLX_LM)


def corrected(fields: Fields, groups: int = 1, kept_groups: int = 1, **different: Any) -> MoeConfig:
    """Read experts in groups whose scores are corrected; `different` as in `routed`."""
    fields.expect("scoring_func", "sigmoid")
    fields.expect("topk_method", "noaux_tc")
    experts = routed(
        fields,
        scoring="sigmoid",
        normalise=fields.flag("norm_topk_prob", True),
        correction="gate.e_score_correction_bias",
        **different,
    )
    return grouped(fields, experts, "best_two", groups, kept_groups)


def further(
    fields: Fields, name: str = "num_nextn_predict_layers", count: int = 1
) -> tuple[str, ...]:
    """Return patterns of the layers after the last, which predict further tokens."""
    layers, more = layer_count(fields), fields.integer(name, count, minimum=0)
    return tuple(rf"model\.layers\.{layer}\." for layer in range(layers, layers + more))
