"""GLM 4.7 Flash: DeepSeek V3's latent attention and experts in other sizes."""

from .config import BlockConfig, ModelConfig
from .deepseek_v2 import latent, mixed
from .deepseek_v3 import MLX_LM, corrected, further
from .fields import Fields
from .read import decoder, layer_count, mlp, rms

KINDS = ("dense", "sparse")


def configure(fields: Fields) -> ModelConfig:
    interleaved = fields.flag("rope_interleave", True)
    mixer = latent(fields, 768, nope_dim=192, value_dim=256, interleaved=interleaved)
    experts = corrected(fields, counts=64, chosens=4, widths=1536, scale=1.8)
    if "mlp_layer_types" in fields:
        kinds = fields.kinds("mlp_layer_types", layer_count(fields), KINDS)
        parts = [experts if kind == "sparse" else mlp(fields) for kind in kinds]
        blocks = [BlockConfig(mixer, part) for part in parts]
        fields.ignore("first_k_dense_replace", "moe_layer_freq", "intermediate_size")
    else:
        blocks = mixed(fields, mixer, experts, first=1)
    return decoder(fields, blocks, rms(fields, 1e-5), unused=further(fields), mlx_lm=MLX_LM)
