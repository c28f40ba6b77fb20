"""Nemotron-H: a block is Mamba 2, attention without positions, experts, or a plain layer."""

import math

from .config import BlockConfig, BlockNames, ModelConfig, NormConfig, SsmConfig
from .deepseek_v2 import grouped
from .feed_forward_config import Activation, MlpConfig, MoeConfig
from .fields import Fields
from .read import attention, decoder, mixture, read_activation, state_space, time_limits

MIXER = BlockNames("mixer", before_mixer="norm", before_feed_forward=None)
FEED_FORWARD = BlockNames(feed_forward="mixer", before_mixer=None, before_feed_forward="norm")
LETTERS = {
    "linear_attention": "M",
    "mamba": "M",
    "full_attention": "*",
    "attention": "*",
    "moe": "E",
    "mlp": "-",
}
RENAMES = (
    (r"^model\.", "backbone."),
    (r"\.experts\.(\d+\.)?up_proj\b", r".experts.\1fc1"),
    (r"\.experts\.(\d+\.)?down_proj\b", r".experts.\1fc2"),
)
# Of training, of how the reference computes, or of layers that predict further tokens.
IGNORED = """
chunk_size expand mamba_ssm_cache_dtype moe_shared_expert_overlap mtp_hybrid_override_pattern
mtp_layers_block_type n_shared_experts norm_eps num_logits_to_keep num_nextn_predict_layers
partial_rotary_factor rescale_prenorm_residual residual_in_fp32 rms_norm_eps rope_theta
time_step_floor time_step_max time_step_rank use_mamba_kernels mamba_proj_bias
"""


def configure(fields: Fields) -> ModelConfig:
    fields.assume(max_position_embeddings=4096, intermediate_size=21_504, num_key_value_heads=8)
    fields.ignore(*IGNORED.split())
    fields.expect("tie_word_embeddings", False)
    fields.expect("attention_bias", False)
    fields.expect("sliding_window", None)
    biased, pattern = fields.flag("mlp_bias", False), _pattern(fields)
    if "E" in pattern:
        fields.expect("mlp_bias", False)
    width = fields.integer("attention_head_dim", 128)
    activation = read_activation(fields, "relu2", "mlp_hidden_act")
    plain = MlpConfig(fields.integer("intermediate_size"), activation, gated=False, bias=biased)
    parts = {
        "M": BlockConfig(_mamba(fields), None, MIXER),
        "*": BlockConfig(attention(fields, width, rope=None), None, MIXER),
        "E": BlockConfig(None, _experts(fields, activation), FEED_FORWARD),
        "-": BlockConfig(None, plain, FEED_FORWARD),
    }
    return decoder(
        fields,
        [parts[letter] for letter in pattern],
        NormConfig(fields.number("layer_norm_epsilon", 1e-5)),
        model="backbone",
        embed="embeddings",
        final_norm="norm_f",
        renames=RENAMES,
        unused=(r"mtp\.",),
    )


def _pattern(fields: Fields) -> str:
    """Read a letter for each block, or a list of kinds by name."""
    pattern = fields.get("hybrid_override_pattern")
    for name in ("layers_block_type", "layer_types"):
        listed = fields.get(name)
        if listed is not None:
            count = len(listed) if isinstance(listed, list) else 0
            pattern = "".join(LETTERS[kind] for kind in fields.kinds(name, count, LETTERS))
    if not isinstance(pattern, str) or not pattern or set(pattern) - set(LETTERS.values()):
        raise fields.refuse("hybrid_override_pattern", "letters of M * E -")
    fields.expect("num_hidden_layers", len(pattern))
    return pattern


def _mamba(fields: Fields) -> SsmConfig:
    fields.expect("mamba_hidden_act", "silu")
    if time_limits(fields) != (0, math.inf):
        raise fields.refuse("time_step_limit", "from 0 to infinity")
    return state_space(
        fields,
        heads=fields.integer("mamba_num_heads", 128),
        head_dim=fields.integer("mamba_head_dim", 64),
        state=fields.integer("ssm_state_size", 128),
        min_step=fields.number("time_step_min", 0.001),  # as transformers takes it
        max_step=math.inf,
    )


def _experts(fields: Fields, activation: Activation) -> MoeConfig:
    experts = mixture(
        fields,
        count="n_routed_experts",
        counts=8,
        chosens=2,
        widths=7688,
        activation=activation,
        gated=False,
        scoring="sigmoid",
        normalise=fields.flag("norm_topk_prob", True),
        scale=fields.number("routed_scaling_factor", 1.0),
        correction="gate.e_score_correction_bias",
        up="fc1",
        down="fc2",
        latent=0 if "moe_latent_size" not in fields else fields.integer("moe_latent_size"),
        shared_width=fields.integer("moe_shared_expert_intermediate_size", 7688),
    )
    return grouped(fields, experts, "best_two")
