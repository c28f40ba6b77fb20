"""What llama.cpp's converter makes of each family, and so what is undone: a row a family.

The facts are those of its conversion/*.py and gguf-py/gguf/tensor_mapping.py, of the release that
llama-cpp-python 0.3.36 has.
"""

from collections.abc import Mapping

from ..checkpoint.weight_files import CheckpointError
from . import derived
from .container import Gguf
from .family import Change, Family, require_model

EXPERTS = {
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}
# Norms on both sides of each part.
SANDWICH = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
AFTER = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def _thirds(module: str) -> dict[str, Change]:
    return {
        f"{module}.0.weight": "first",
        f"{module}.1.weight": "second",
        f"{module}.2.weight": "third",
    }


def _ssm(name: str) -> dict[str, str]:
    """Return the names of a state space's tensors, below its module's."""
    modules = {"in": "in_proj", "conv1d": "conv1d", "norm": "norm", "out": "out_proj"}
    tensors = {"ssm_a": "A_log", "ssm_d": "D", "ssm_dt.bias": "dt_bias"}
    below = {f"ssm_{place}": f"{name}.{module}" for place, module in modules.items()}
    return below | {place: f"{name}.{tensor}" for place, tensor in tensors.items()}


PAIRED: Mapping[str, tuple[Change, ...]] = {"attn_q": ("paired",), "attn_k": ("paired_keys",)}
SHIFTED: Mapping[str, tuple[Change, ...]] = {"norm": ("shifted",)}
MAMBA: Mapping[str, tuple[Change, ...]] = {
    "ssm_a": ("flat", "decay"),
    "ssm_d": ("flat",),
    "ssm_norm": ("flat",),
    "ssm_conv1d.weight": ("convolution",),
}
DELTA: Mapping[str, tuple[Change, ...]] = {
    "ssm_a": ("decay",),
    "ssm_conv1d.weight": ("convolution",),
}
# Qwen 3.5's heads of values lie by turns: the first of each head of keys, then the second.
TILED: Mapping[str, tuple[Change, ...]] = {
    "ssm_a": ("decay", "tiled"),
    "ssm_dt.bias": ("tiled",),
    "ssm_alpha": ("tiled",),
    "ssm_beta": ("tiled",),
    "attn_gate": ("tiled",),
    "attn_qkv": ("tiled_values",),
    "ssm_conv1d.weight": ("tiled_values", "convolution"),
    "ssm_out": ("tiled_columns",),
}
LINEAR_MODULES = _ssm("linear_attn") | {
    "attn_qkv": "linear_attn.in_proj_qkv",
    "attn_gate": "linear_attn.in_proj_z",
    "ssm_alpha": "linear_attn.in_proj_a",
    "ssm_beta": "linear_attn.in_proj_b",
    "post_attention_norm": "post_attention_layernorm",
}
LINEAR_FIELDS = {
    "linear_conv_kernel_dim": "ssm.conv_kernel",
    "linear_num_key_heads": "ssm.group_count",
    "linear_num_value_heads": "ssm.time_step_rank",
    "linear_key_head_dim": "ssm.state_size",
}
LOCAL_EXPERTS = {"num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count"}
ROUTED = {
    "n_routed_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "n_shared_experts": "expert_shared_count",
    "routed_scaling_factor": "expert_weights_scale",
    "norm_topk_prob": "expert_weights_norm",
    "n_group": "expert_group_count",
    "topk_group": "expert_group_used_count",
    "first_k_dense_replace": "leading_dense_block_count",
}
SPARSE = {
    "ffn_gate_inp": "block_sparse_moe.gate",
    "ffn_gate_exps": "block_sparse_moe.switch_mlp.gate_proj",
    "ffn_up_exps": "block_sparse_moe.switch_mlp.up_proj",
    "ffn_down_exps": "block_sparse_moe.switch_mlp.down_proj",
}
SHARED = {
    "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
    "ffn_up_shexp": "mlp.shared_experts.up_proj",
    "ffn_down_shexp": "mlp.shared_experts.down_proj",
    "exp_probs_b.bias": "mlp.gate.e_score_correction_bias",
}
GRANITE_FIELDS = {
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}
GRANITE_EXPERTS = SPARSE | {
    "ffn_gate_inp": "block_sparse_moe.router",
    "ffn_gate_shexp": "shared_mlp.gate_proj",
    "ffn_up_shexp": "shared_mlp.up_proj",
    "ffn_down_shexp": "shared_mlp.output_linear",
}
SHARED_WIDTH = {"shared_expert_intermediate_size": "expert_shared_feed_forward_length"}
LFM2_FIELDS = {
    "norm_eps": "attention.layer_norm_rms_epsilon",
    "rms_norm_eps": "",
    "conv_L_cache": "shortconv.l_cache",
}
LFM2_MODULES = {
    "token_embd_norm": "model.embedding_norm",
    "output_norm": "model.embedding_norm",
    "attn_norm": "operator_norm",
    "ffn_norm": "ffn_norm",
    "attn_output": "self_attn.out_proj",
    "attn_q_norm": "self_attn.q_layernorm",
    "attn_k_norm": "self_attn.k_layernorm",
    "shortconv.conv": "conv.conv",
    "shortconv.in_proj": "conv.in_proj",
    "shortconv.out_proj": "conv.out_proj",
}
BACKBONE = {
    "token_embd": "backbone.embeddings",
    "output_norm": "backbone.norm_f",
    "attn_norm": "norm",
}
NEMOTRON = Family(
    "nemotron_h",
    ROUTED
    | {
        "moe_shared_expert_intermediate_size": "expert_shared_feed_forward_length",
        "moe_latent_size": "moe_latent_size",
        "layer_norm_epsilon": "attention.layer_norm_rms_epsilon",
        "conv_kernel": "ssm.conv_kernel",
        "ssm_state_size": "ssm.state_size",
        "n_groups": "ssm.group_count",
        "mamba_num_heads": "ssm.time_step_rank",
        "first_k_dense_replace": "",
    },
    _ssm("mixer")
    | BACKBONE
    | {
        "attn_q": "mixer.q_proj",
        "attn_k": "mixer.k_proj",
        "attn_v": "mixer.v_proj",
        "attn_output": "mixer.o_proj",
        "ffn_up": "mixer.up_proj",
        "ffn_down": "mixer.down_proj",
        "ffn_gate_inp": "mixer.gate",
        "ffn_up_exps": "mixer.switch_mlp.fc1",
        "ffn_down_exps": "mixer.switch_mlp.fc2",
        "ffn_up_shexp": "mixer.shared_experts.up_proj",
        "ffn_down_shexp": "mixer.shared_experts.down_proj",
        "ffn_latent_down": "mixer.fc1_latent_proj",
        "ffn_latent_up": "mixer.fc2_latent_proj",
        "exp_probs_b.bias": "mixer.gate.e_score_correction_bias",
    },
    MAMBA,
    more=derived.nemotron_h,
)
LAYER_NORM = {"layer_norm_eps": "attention.layer_norm_epsilon", "rms_norm_eps": ""}
WINDOW = {"sliding_window": "attention.sliding_window"}
SOFTCAP = {"final_logit_softcapping": "final_logit_softcapping"}
SHARING = {
    "num_kv_shared_layers": "attention.shared_kv_layers",
    "hidden_size_per_layer_input": "embedding_length_per_layer_input",
}
PER_LAYER = {
    "per_layer_token_embd": "model.embed_tokens_per_layer",
    "per_layer_model_proj": "model.per_layer_model_projection",
    "per_layer_proj_norm": "model.per_layer_projection_norm",
    "inp_gate": "per_layer_input_gate",
    "proj": "per_layer_projection",
    "post_norm": "post_per_layer_input_norm",
}
# Of encoders, whose norms come after the sums.
ENCODER_FIELDS = {
    "layer_norm_eps": "attention.layer_norm_epsilon",
    **dict.fromkeys(("head_dim", "num_key_value_heads", "rms_norm_eps"), ""),
}
EMBEDDINGS = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "position_embd": "embeddings.position_embeddings",
}
FAMILIES: Mapping[str, Family] = {
    "bert": Family(
        "bert",
        ENCODER_FIELDS | {"rope_theta": ""},
        EMBEDDINGS
        | {
            "token_embd_norm": "embeddings.LayerNorm",
            "attn_q": "attention.self.query",
            "attn_k": "attention.self.key",
            "attn_v": "attention.self.value",
            "attn_output": "attention.output.dense",
            "attn_output_norm": "attention.output.LayerNorm",
            "ffn_up": "intermediate.dense",
            "ffn_down": "output.dense",
            "layer_output_norm": "output.LayerNorm",
        },
        more=derived.encoder,
        layers="encoder.layer",
    ),
    "nomic-bert": Family(
        "nomic_bert",
        ENCODER_FIELDS,
        EMBEDDINGS
        | {
            "token_embd_norm": "emb_ln",
            "attn_qkv": "attn.Wqkv",
            "attn_output": "attn.out_proj",
            "attn_output_norm": "norm1",
            "ffn_gate": "mlp.fc12",
            "ffn_up": "mlp.fc11",
            "ffn_down": "mlp.fc2",
            "layer_output_norm": "norm2",
        },
        more=derived.encoder,
        layers="encoder.layers",
    ),
    "llama": Family("llama", LOCAL_EXPERTS, SPARSE, PAIRED, more=derived.llama),
    "granite": Family("granite", GRANITE_FIELDS, changes=PAIRED, more=derived.biased),
    "granitemoe": Family(
        "granitemoe",
        GRANITE_FIELDS
        | LOCAL_EXPERTS
        | {"shared_intermediate_size": "expert_shared_feed_forward_length"},
        GRANITE_EXPERTS,
        PAIRED,
        more=derived.granite_moe,
    ),
    "granitehybrid": Family(
        "granitemoehybrid",
        GRANITE_FIELDS
        | LOCAL_EXPERTS
        | {
            "shared_intermediate_size": "expert_shared_feed_forward_length",
            "mamba_d_conv": "ssm.conv_kernel",
            "mamba_d_state": "ssm.state_size",
            "mamba_n_groups": "ssm.group_count",
            "mamba_n_heads": "ssm.time_step_rank",
        },
        GRANITE_EXPERTS | _ssm("mamba"),
        {**PAIRED, **MAMBA},
        more=derived.granite_hybrid,
    ),
    "smollm3": Family("smollm3", changes=PAIRED, more=derived.biased),
    "qwen2": Family("qwen2"),
    "qwen2moe": Family("qwen2_moe", EXPERTS | SHARED_WIDTH, more=derived.qwen2_moe),
    "qwen3": Family("qwen3", more=derived.biased),
    "qwen3moe": Family(
        "qwen3_moe", EXPERTS, fixed={"norm_topk_prob": True}, more=derived.qwen3_moe
    ),
    "gemma": Family("gemma", changes=SHIFTED, fixed={"hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": Family(
        "gemma2",
        SOFTCAP | WINDOW | {"attn_logit_softcapping": "attn_logit_softcapping"},
        SANDWICH,
        SHIFTED,
        more=derived.gemma2,
    ),
    "gemma3": Family(
        "gemma3_text",
        SOFTCAP | WINDOW,
        SANDWICH,
        SHIFTED,
        more=derived.gemma3,
    ),
    "phi3": Family("phi3", {"head_dim": ""}, {"ffn_up": "mlp.gate_up_proj"}, more=derived.phi3),
    "olmo2": Family("olmo2", modules=AFTER, more=derived.olmo2),
    "gpt-oss": Family(
        "gpt_oss",
        LOCAL_EXPERTS | WINDOW | {"intermediate_size": "expert_feed_forward_length"},
        {
            "attn_sinks.weight": "self_attn.sinks",
            "post_attention_norm": "post_attention_layernorm",
            "ffn_gate_inp": "mlp.router",
        },
        more=derived.gpt_oss,
    ),
    "glm4": Family(
        "glm4",
        modules={
            "post_attention_norm": "post_self_attn_layernorm",
            "post_ffw_norm": "post_mlp_layernorm",
            "ffn_up": "mlp.gate_up_proj",
        },
        more=derived.glm4,
    ),
    "glm4moe": Family(
        "glm4_moe",
        ROUTED,
        SHARED | {"post_attention_norm": "post_attention_layernorm"},
        more=derived.glm4_moe,
    ),
    "starcoder2": Family(
        "starcoder2",
        {"norm_epsilon": "attention.layer_norm_epsilon", "rms_norm_eps": ""},
        {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
        more=derived.starcoder2,
    ),
    "exaone4": Family("exaone4", modules=AFTER, more=derived.exaone4),
    "cohere2": Family(
        "cohere2", LAYER_NORM | WINDOW | {"logit_scale": "logit_scale"}, more=derived.windows
    ),
    "command-r": Family(
        "cohere", LAYER_NORM | {"logit_scale": "logit_scale"}, more=derived.command_r
    ),
    "phi2": Family(
        "phi",
        LAYER_NORM,
        {
            "output_norm": "model.final_layernorm",
            "attn_output": "self_attn.dense",
            "ffn_up": "mlp.fc1",
            "ffn_down": "mlp.fc2",
        },
        more=derived.partly,
    ),
    "lfm2": Family(
        "lfm2",
        LFM2_FIELDS,
        LFM2_MODULES
        | {
            "ffn_gate": "feed_forward.w1",
            "ffn_up": "feed_forward.w3",
            "ffn_down": "feed_forward.w2",
        },
        {"shortconv.conv.weight": ("convolution",)},
        fixed={"block_auto_adjust_ff_dim": False},
        more=derived.lfm2,
    ),
    "seed_oss": Family(
        "seed_oss",
        modules={"post_attention_norm": "post_attention_layernorm"},
        more=derived.seed_oss,
    ),
    "qwen3next": Family(
        "qwen3_next",
        EXPERTS | LINEAR_FIELDS | SHARED_WIDTH,
        LINEAR_MODULES,
        DELTA,
        more=derived.delta,
        parts={
            "ssm_ba.weight": {
                "linear_attn.in_proj_b.weight": "betas",
                "linear_attn.in_proj_a.weight": "alphas",
            }
        },
    ),
    "qwen35": Family("qwen3_5_text", LINEAR_FIELDS, LINEAR_MODULES, TILED, more=derived.delta),
    "qwen35moe": Family(
        "qwen3_5_moe_text",
        EXPERTS | LINEAR_FIELDS | SHARED_WIDTH,
        LINEAR_MODULES,
        TILED,
        more=derived.delta,
    ),
    "nemotron_h": NEMOTRON,
    "nemotron_h_moe": NEMOTRON,
    "minimax-m2": Family(
        "minimax_m2",
        LOCAL_EXPERTS
        | {"intermediate_size": "expert_feed_forward_length", "rotary_dim": "rope.dimension_count"},
        SPARSE | {"exp_probs_b.bias": "block_sparse_moe.e_score_correction_bias"},
    ),
    "lfm2moe": Family(
        "lfm2_moe",
        LFM2_FIELDS | EXPERTS | {"num_dense_layers": "leading_dense_block_count"},
        LFM2_MODULES
        | {
            "ffn_gate": "feed_forward.gate_proj",
            "ffn_up": "feed_forward.up_proj",
            "ffn_down": "feed_forward.down_proj",
            "ffn_gate_inp": "feed_forward.gate",
            "ffn_gate_exps": "feed_forward.switch_mlp.gate_proj",
            "ffn_up_exps": "feed_forward.switch_mlp.up_proj",
            "ffn_down_exps": "feed_forward.switch_mlp.down_proj",
            "exp_probs_b.bias": "feed_forward.expert_bias",
        },
        {"shortconv.conv.weight": ("convolution",)},
        more=derived.lfm2,
    ),
    "mamba2": Family(
        "mamba2",
        {
            "max_position_embeddings": "",
            "layer_norm_epsilon": "attention.layer_norm_rms_epsilon",
            "rms_norm_eps": "",
            "num_heads": "ssm.time_step_rank",
            "state_size": "ssm.state_size",
            "n_groups": "ssm.group_count",
            "conv_kernel": "ssm.conv_kernel",
        },
        _ssm("mixer") | BACKBONE,
        MAMBA,
        more=derived.mamba2,
    ),
    "phimoe": Family("phimoe", LOCAL_EXPERTS | {"head_dim": ""}, SPARSE, more=derived.phimoe),
    "mistral3": Family("ministral3", changes=PAIRED, more=derived.mistral3),
    "gemma3n": Family(
        "gemma3n_text",
        SOFTCAP | WINDOW | SHARING,
        SANDWICH
        | PER_LAYER
        | {
            "altup_correct_coef": "altup.correction_coefs",
            "altup_correct_scale.weight": "altup.correct_output_scale",
            "altup_predict_coef": "altup.prediction_coefs",
            "altup_router": "altup.modality_router",
            "altup_router_norm": "altup.router_norm",
            "laurel_l": "laurel.linear_left",
            "laurel_r": "laurel.linear_right",
            "laurel_post_norm": "laurel.post_laurel_norm",
        },
        more=derived.gemma3n,
        parts={
            "altup_proj.weight": _thirds("model.altup_projections"),
            "altup_unembd_proj.weight": _thirds("model.altup_unembed_projections"),
        },
    ),
    "gemma4": Family(
        "gemma4_text",
        SOFTCAP
        | WINDOW
        | SHARING
        | {
            "head_dim": "attention.key_length_swa",
            "global_head_dim": "attention.key_length",
            "num_experts": "expert_count",
            "top_k_experts": "expert_used_count",
            "moe_intermediate_size": "expert_feed_forward_length",
        },
        SANDWICH
        | PER_LAYER
        | {
            "layer_output_scale.weight": "layer_scalar",
            "post_ffw_norm_1": "post_feedforward_layernorm_1",
            "pre_ffw_norm_2": "pre_feedforward_layernorm_2",
            "post_ffw_norm_2": "post_feedforward_layernorm_2",
            "ffn_gate_inp": "router.proj",
            "ffn_gate_inp.scale": "router.scale",
            "ffn_gate_up_exps": "experts.gate_up_proj",
            "ffn_down_exps": "experts.down_proj",
            "ffn_down_exps.scale": "router.per_expert_scale",
        },
        more=derived.gemma4,
    ),
    "deepseek2": Family(
        "deepseek_v2",
        ROUTED
        | {
            "head_dim": "",
            "kv_lora_rank": "attention.kv_lora_rank",
            "qk_rope_head_dim": "rope.dimension_count",
        },
        SHARED
        | {
            "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
            "attn_kv_a_norm": "self_attn.kv_a_layernorm",
            "attn_kv_b": "self_attn.kv_b_proj",
            "attn_k_b": "self_attn.embed_q",
            "attn_v_b": "self_attn.unembed_out",
            "attn_q_a": "self_attn.q_a_proj",
            "attn_q_a_norm": "self_attn.q_a_layernorm",
            "attn_q_b": "self_attn.q_b_proj",
        },
        more=derived.deepseek2,
    ),
}


def family(gguf: Gguf) -> Family:
    """Return a file's family. Raises CheckpointError for one that is not known here."""
    require_model(gguf)
    if gguf.architecture not in FAMILIES:
        raise CheckpointError(
            f"{gguf.path} has the architecture {gguf.architecture!r}, and GGUF files of "
            f"{', '.join(FAMILIES)} are read; give the directory of the model that it was made from"
        )
    return FAMILIES[gguf.architecture]
