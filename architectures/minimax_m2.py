"""MiniMax M2: many small experts chosen by corrected sigmoids, and norms of all heads together."""

from .config import ModelConfig
from .deepseek_v3 import further
from .fields import Fields
from .mixtral import EXPERTS
from .read import META, alike, attention, decoder, layer_count, local_experts, rms

# What published configs say of which transformers and mlx_lm know one value each.
BUILT = {
    "use_qk_norm": True,
    "qk_norm_type": "per_layer",
    "scoring_func": "sigmoid",
    "use_routing_bias": True,
    "layernorm_full_attention_beta": 1.0,
    "layernorm_mlp_beta": 1.0,
}


def configure(fields: Fields) -> ModelConfig:
    fields.assume(
        num_key_value_heads=8, head_dim=128, rope_theta=5e6, max_position_embeddings=196_608
    )
    for name, value in BUILT.items():
        fields.expect(name, value)
    fields.expect("attn_type_list", [1] * layer_count(fields))
    # Of layers that predict further tokens, and of MiniMax's earlier models.
    fields.ignore(
        "use_mtp",
        "mtp_transformer_layers",
        "layernorm_linear_attention_beta",
        "mlp_intermediate_size",
        "shared_moe_mode",
    )
    experts = local_experts(
        fields,
        counts=256,
        chosens=8,
        widths=1536,
        scoring="sigmoid",
        correction="e_score_correction_bias",
    )
    dim = fields.integer("head_dim")
    rotary_dim = fields.integer("rotary_dim", dim, maximum=dim)
    mixer = attention(fields, qk_norm="all", share=rotary_dim / dim)
    return decoder(
        fields,
        alike(fields, mixer, experts, EXPERTS),
        rms(fields),
        renames=META,
        unused=further(fields, "num_mtp_modules", 0),
    )
