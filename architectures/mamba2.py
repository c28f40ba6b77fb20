"""Mamba 2 by itself: a state space a block, and nothing else."""

from .config import BlockConfig, ModelConfig, NormConfig
from .fields import Fields
from .nemotron_h import MIXER, RENAMES
from .read import decoder, layer_count, state_space, time_limits

# Of training, of how the reference computes, or what follows from other sizes.
IGNORED = """
chunk_size fused_add_norm intermediate_size norm_before_gate rescale_prenorm_residual
residual_in_fp32 ssm_state_size time_step_floor time_step_init_scheme time_step_max
time_step_min time_step_rank
"""
CONTEXT = 262_144  # a state has no end; this is how far Codestral's was tried


def configure(fields: Fields) -> ModelConfig:
    fields.assume(max_position_embeddings=CONTEXT)
    fields.ignore(*IGNORED.split())
    fields.expect("rms_norm", True)
    fields.expect("hidden_act", "silu")
    min_step, max_step = time_limits(fields)
    mixer = state_space(
        fields,
        heads=fields.integer("num_heads"),
        head_dim=fields.integer("head_dim"),
        state=fields.integer("state_size"),
        min_step=min_step,
        max_step=max_step,
    )
    hidden, expand = fields.integer("hidden_size"), fields.integer("expand", 2)
    if mixer.inner != expand * hidden:
        raise fields.refuse("num_heads", f"so many that heads have {expand * hidden} numbers")
    return decoder(
        fields,
        [BlockConfig(mixer, None, MIXER)] * layer_count(fields),
        NormConfig(fields.number("layer_norm_epsilon", 1e-5)),
        model="backbone",
        embed="embeddings",
        final_norm="norm_f",
        renames=(*RENAMES[:1], (r"^backbone\.embedding\.", "backbone.embeddings.")),
    )
