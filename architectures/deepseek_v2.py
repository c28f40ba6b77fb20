"""DeepSeek V2: latent attention, and experts of which a token may see the best groups alone."""

from dataclasses import replace
from typing import Any, Literal

from .config import BlockConfig, LatentConfig, MixerConfig, ModelConfig
from .feed_forward_config import MoeConfig
from .fields import Fields
from .read import decoder, layer_count, mixture, mlp, rms
from .rope import read_rope, score_scale


def configure(fields: Fields) -> ModelConfig:
    fields.expect("mlp_bias", False)
    fields.expect("norm_topk_prob", False)
    fields.expect("scoring_func", "softmax")
    method = fields.choice("topk_method", ("greedy", "group_limited_greedy"), "greedy")
    experts = routed(fields, shared=2, counts=64, widths=1407, normalise=False)
    if method == "group_limited_greedy":
        experts = grouped(fields, experts, "best")
    fields.ignore("n_group", "topk_group")  # of a greedy choice
    return decoder(fields, mixed(fields, latent(fields), experts, first=0), rms(fields))


def latent(
    fields: Fields,
    query_rank: int = 1536,
    nope_dim: int = 128,
    value_dim: int = 128,
    interleaved: bool = True,
) -> LatentConfig:
    """Read latent attention; the sizes stand in for absent fields, a null query rank is none."""
    heads, rope_dim = fields.integer("num_attention_heads"), fields.integer("qk_rope_head_dim", 64)
    fields.expect("num_key_value_heads", heads)
    fields.ignore("head_dim", "qk_head_dim")  # they follow from what is read
    rope = read_rope(fields, rope_dim)
    if rope.dims != rope_dim:
        raise fields.refuse("partial_rotary_factor", "1.0")
    nope = fields.integer("qk_nope_head_dim", nope_dim)
    return LatentConfig(
        heads,
        fields.integer("q_lora_rank", 0 if "q_lora_rank" in fields.raw else query_rank),
        fields.integer("kv_lora_rank", 512),
        nope,
        rope_dim,
        fields.integer("v_head_dim", value_dim),
        (nope + rope_dim) ** -0.5 * score_scale(fields, rope),
        rope,
        interleaved,
        fields.flag("attention_bias", False),
    )


def routed(fields: Fields, shared: int = 1, scale: float = 1.0, **different: Any) -> MoeConfig:
    """Read experts, and shared ones as one of their joint width; `different` as in `mixture`."""
    scale = fields.number("routed_scaling_factor", scale)
    experts = mixture(fields, count="n_routed_experts", scale=scale, **different)
    width = fields.integer("n_shared_experts", shared, minimum=0) * experts.width
    return replace(experts, shared_width=width)


def grouped(
    fields: Fields,
    experts: MoeConfig,
    score: Literal["best", "best_two"],
    groups: int = 1,
    kept_groups: int = 1,
) -> MoeConfig:
    """Put experts in groups, of which a token sees the best `kept_groups`."""
    groups = fields.integer("n_group", groups)
    if experts.count % groups:
        raise fields.refuse("n_group", f"a divisor of {experts.count} experts")
    kept_groups = fields.integer("topk_group", kept_groups, maximum=groups)
    if experts.per_token > experts.count // groups * kept_groups:
        raise fields.refuse("topk_group", f"groups of at least {experts.per_token} experts")
    return replace(experts, groups=groups, kept_groups=kept_groups, group_score=score)


def mixed(fields: Fields, mixer: MixerConfig, experts: MoeConfig, first: int) -> list[BlockConfig]:
    """Return blocks with experts from the `first` on, if the config does not say from which."""
    first = fields.integer("first_k_dense_replace", first, minimum=0)
    step = fields.integer("moe_layer_freq", 1)
    fields.ignore("intermediate_size")  # if no layer is dense
    return [
        BlockConfig(mixer, mlp(fields) if layer < first or layer % step else experts)
        for layer in range(layer_count(fields))
    ]
