"""Granite 4: Mamba 2 or attention in a layer, then experts and a shared part, or that alone."""

from .config import AttentionConfig, BlockConfig, BlockNames, MixerConfig, ModelConfig, SsmConfig
from .feed_forward_config import FeedForwardConfig, MlpConfig
from .fields import Fields
from .granite import multipliers, scaled
from .granitemoe import MODULE, RENAMES, routed
from .read import decoder, layer_count, read_activation, rms, time_limits
from .storage import MlxLm

MAMBA, ATTENTION = "mamba", "self_attn"
KINDS = {
    "linear_attention": MAMBA,
    "mamba": MAMBA,
    "full_attention": ATTENTION,
    "attention": ATTENTION,
}
# Of kinds of layers that a model may do without.
SOME = """
mamba_chunk_size mamba_conv_bias mamba_d_conv mamba_d_head mamba_d_state mamba_expand
mamba_n_groups mamba_n_heads mamba_proj_bias rope_parameters rope_scaling rope_theta time_step_limit
"""
DENSE = (
    (r"\.shared_mlp\.input_linear\.", ".mlp.gate_up_proj."),
    (r"\.shared_mlp\.output_linear\.", ".mlp.down_proj."),
)
MLX_LM = MlxLm(rules=((r"(.+\.mlp)\.gate_up_proj\.weight", "gate_up"),))


def configure(fields: Fields) -> ModelConfig:
    fields.ignore("init_method", *SOME.split())
    fields.expect("normalization_function", "rmsnorm")
    fields.expect("mlp_bias", False)
    kinds = _kinds(fields)
    mixers: dict[str, MixerConfig] = {ATTENTION: _attention(fields)}
    if MAMBA in kinds:
        mixers[MAMBA] = _mamba(fields)
    sparse = fields.integer("num_local_experts", 8, minimum=0) > 0
    names = {kind: BlockNames(kind, MODULE if sparse else "mlp") for kind in mixers}
    feed_forward = _feed_forward(fields, sparse)
    return decoder(
        fields,
        [BlockConfig(mixers[kind], feed_forward, names[kind]) for kind in kinds],
        rms(fields),
        renames=RENAMES if sparse else DENSE,
        mlx_lm=MLX_LM,
        **multipliers(fields),
    )


def _kinds(fields: Fields) -> list[str]:
    layers = layer_count(fields)
    for name in ("layer_types", "layers_block_type"):
        if name in fields:
            return [KINDS[kind] for kind in fields.kinds(name, layers, KINDS)]
    return [MAMBA] * layers


def _attention(fields: Fields) -> AttentionConfig:
    if fields.choice("position_embedding_type", ("rope", "nope"), "nope") == "rope":
        return scaled(fields)
    return scaled(fields, rope=None)


def _mamba(fields: Fields) -> SsmConfig:
    fields.expect("hidden_act", "silu")  # of the convolution too
    inner = fields.integer("mamba_expand", 2) * fields.integer("hidden_size")
    heads, groups = fields.integer("mamba_n_heads", 128), fields.integer("mamba_n_groups", 1)
    auto = fields.get("mamba_d_head") == "auto"
    dim = inner // heads if auto else fields.integer("mamba_d_head", inner // heads)
    if heads * dim != inner:
        raise fields.refuse("mamba_n_heads", f"as many as give {inner} numbers of {dim} each")
    if heads % groups:
        raise fields.refuse("mamba_n_groups", f"a divisor of {heads} heads")
    min_step, max_step = time_limits(fields)
    return SsmConfig(
        heads,
        dim,
        groups,
        fields.integer("mamba_d_state", 256),
        fields.integer("mamba_d_conv", 4, minimum=2, maximum=8),
        min_step,
        max_step,
        norm_groups=groups,
        bias=fields.flag("mamba_proj_bias", False),
        conv_bias=fields.flag("mamba_conv_bias", True),
    )


def _feed_forward(fields: Fields, sparse: bool) -> FeedForwardConfig:
    width = fields.integer("shared_intermediate_size", 1024)
    if not sparse:
        fields.ignore("intermediate_size", "num_experts_per_tok")
        return MlpConfig(width, read_activation(fields, "silu"))
    return routed(
        fields,
        shared_width=width,
        shared="shared_mlp",
        shared_joint="input_linear",
        shared_down="output_linear",
        shared_outside=True,
    )
