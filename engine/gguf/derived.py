"""Fields of a config.json that follow from several of a file's, or from its tensors, by family."""

from statistics import NormalDist
from typing import Any

from ..checkpoint.weight_files import CheckpointError
from .container import Gguf
from .family import by_layer, has, layer_count, layers_with, needed, scaling

FULL, SLIDING = "full_attention", "sliding_attention"
SIGMOID = 2  # of llama.cpp's functions that score experts
MSCALE = 1.243163121016122  # Phi 3.5's, of which there is one


def llama(gguf: Gguf) -> dict[str, Any]:
    """Read Llama, and Mixtral, which has the same architecture's name."""
    if gguf.value("expert_count"):
        return {"model_type": "mixtral"}
    return {
        "attention_bias": has(gguf, "attn_output.bias"),
        "mlp_bias": has(gguf, "ffn_down.bias"),
    }


def encoder(gguf: Gguf) -> dict[str, Any]:
    types = gguf.tensors.get("token_types.weight")
    return {"type_vocab_size": types.shape[0] if types else 0}


def biased(gguf: Gguf) -> dict[str, Any]:
    return {"attention_bias": has(gguf, "attn_q.bias")}


def qwen2_moe(gguf: Gguf) -> dict[str, Any]:
    """Return how wide experts are, which older files say by their tensors alone."""
    below = {"moe": "ffn_up_exps", "shared_expert": "ffn_up_shexp"}
    tensors = {part: gguf.tensors.get(f"blk.0.{name}.weight") for part, name in below.items()}
    return {
        f"{part}_intermediate_size": (0, 0, *each.shape)[-2]
        for part, each in tensors.items()
        if each
    }


def qwen3_moe(gguf: Gguf) -> dict[str, Any]:
    return biased(gguf) | qwen2_moe(gguf)


def gemma2(gguf: Gguf) -> dict[str, Any]:
    """Return the scale of scores: that of 27 B follows from how many heads there are."""
    heads, size = needed(gguf, "attention.head_count"), needed(gguf, "embedding_length")
    wide = gguf.value("block_count") == 46
    return {"query_pre_attn_scalar": size // heads if wide else gguf.value("attention.key_length")}


def gemma3(gguf: Gguf) -> dict[str, Any]:
    heads, size = needed(gguf, "attention.head_count"), needed(gguf, "embedding_length")
    wide = gguf.value("block_count") == 62
    scalar = size // heads if wide else gguf.value("attention.key_length")
    local = gguf.value("rope.freq_base_swa")
    return {
        "query_pre_attn_scalar": scalar,
        **({"rope_local_base_freq": local} if local else {}),
        # The converter leaves a window out where no layer has one.
        **({} if gguf.value("attention.sliding_window") else {"sliding_window_pattern": 1}),
    }


def phi3(gguf: Gguf) -> dict[str, Any]:
    heads, size = needed(gguf, "attention.head_count"), needed(gguf, "embedding_length")
    rotated, window = needed(gguf, "rope.dimension_count"), gguf.value("attention.sliding_window")
    return {
        "partial_rotary_factor": rotated * heads / size,
        "original_max_position_embeddings": gguf.value("rope.scaling.original_context_length"),
        "sliding_window": window or None,
    }


def partly(gguf: Gguf) -> dict[str, Any]:
    """Return how much of a head rotates."""
    dim = gguf.value("attention.key_length")
    dim = dim or max(needed(gguf, "embedding_length") // needed(gguf, "attention.head_count"), 1)
    return {"partial_rotary_factor": needed(gguf, "rope.dimension_count") / dim}


def windows(gguf: Gguf) -> dict[str, Any]:
    """Return which layers have a window; where a file says nothing, the config's default holds."""
    pattern = gguf.value("attention.sliding_window_pattern")
    if pattern is None:
        return {}
    layers = range(layer_count(gguf))
    if isinstance(pattern, list):
        pattern = by_layer(gguf, "attention.sliding_window_pattern")
    else:
        pattern = [pattern == 0 or layer % pattern < pattern - 1 for layer in layers]
    kinds = [SLIDING if pattern[layer] else FULL for layer in layers]
    return {"sliding_window": gguf.value("attention.sliding_window"), "layer_types": kinds}


def gpt_oss(gguf: Gguf) -> dict[str, Any]:
    """Return what all published ones say: the bounds of stretched positions are not whole."""
    stretched = {name: table | {"truncate": False} for name, table in scaling(gguf).items()}
    return windows(gguf) | stretched


def glm4(gguf: Gguf) -> dict[str, Any]:
    if gguf.value("rope.dimension_sections"):
        raise CheckpointError(
            f"{gguf.path} is the text side of a GLM that sees, whose positions are not read from "
            "GGUF files; give the directory of the model that it was made from"
        )
    return biased(gguf) | partly(gguf)


def starcoder2(gguf: Gguf) -> dict[str, Any]:
    return {"use_bias": has(gguf, "attn_q.bias")}


def exaone4(gguf: Gguf) -> dict[str, Any]:
    """Return windows, which the one of 64 layers has always."""
    usual = 4096 if layer_count(gguf) == 64 else None
    return {"sliding_window": gguf.value("attention.sliding_window") or usual} | windows(gguf)


def command_r(gguf: Gguf) -> dict[str, Any]:
    return {"use_qk_norm": has(gguf, "attn_q_norm.weight")}


def lfm2(gguf: Gguf) -> dict[str, Any]:
    convolutions = layers_with(gguf, "shortconv.conv.weight")
    return {
        "layer_types": ["conv" if each else FULL for each in convolutions],
        "conv_bias": has(gguf, "shortconv.conv.bias"),
    }


def seed_oss(gguf: Gguf) -> dict[str, Any]:
    return biased(gguf) | {"attention_out_bias": has(gguf, "attn_output.bias")}


def olmo2(gguf: Gguf) -> dict[str, Any]:
    """Read OLMo 2, and OLMo 3, which has the same architecture's name, and windows."""
    window = gguf.value("attention.sliding_window")
    if not window:
        return biased(gguf)
    return {"model_type": "olmo3", "sliding_window": window} | biased(gguf) | windows(gguf)


def delta(gguf: Gguf) -> dict[str, Any]:
    """Read Qwen's gated delta nets."""
    heads = needed(gguf, "ssm.time_step_rank")
    linear = layers_with(gguf, "ssm_a")
    return {
        "linear_value_head_dim": needed(gguf, "ssm.inner_size") // heads,
        "layer_types": ["linear_attention" if each else FULL for each in linear],
        **partly(gguf),
        **biased(gguf),
    }


def granite_moe(gguf: Gguf) -> dict[str, Any]:
    """Read Granite 3 with experts, with a shared one too, or in spite of the name with none."""
    if not gguf.value("expert_count"):
        return {"model_type": "granite"} | biased(gguf)
    if not has(gguf, "ffn_up_shexp.weight"):
        return biased(gguf)
    kinds = ["attention"] * layer_count(gguf)
    shared = {"model_type": "granitemoehybrid", "position_embedding_type": "rope"}
    return {**biased(gguf), **shared, "layer_types": kinds}


def granite_hybrid(gguf: Gguf) -> dict[str, Any]:
    inner, heads = needed(gguf, "ssm.inner_size"), needed(gguf, "ssm.time_step_rank")
    known = gguf.value("rope.scaling.finetuned") is not False
    return {
        "mamba_d_head": inner // heads,
        "mamba_expand": inner // needed(gguf, "embedding_length"),
        "mamba_conv_bias": has(gguf, "ssm_conv1d.bias"),
        "mamba_proj_bias": has(gguf, "ssm_in.bias"),
        "layer_types": ["mamba" if each else "attention" for each in layers_with(gguf, "ssm_a")],
        "position_embedding_type": "rope" if known else "nope",
        **biased(gguf),
    }


def nemotron_h(gguf: Gguf) -> dict[str, Any]:
    kinds = {"mamba": "ssm_a", "attention": "attn_q.weight", "moe": "ffn_gate_inp.weight"}
    there = {kind: layers_with(gguf, name) for kind, name in kinds.items()}
    layers = range(layer_count(gguf))
    heads, widths = needed(gguf, "ssm.time_step_rank"), gguf.value("feed_forward_length")
    epsilons = [gguf.value(f"attention.layer_norm_{kind}epsilon") for kind in ("rms_", "")]
    return {
        "layer_norm_epsilon": next((each for each in epsilons if each is not None), None),
        "layers_block_type": [
            next((kind for kind in kinds if there[kind][layer]), "mlp") for layer in layers
        ],
        "mamba_head_dim": needed(gguf, "ssm.inner_size") // heads,
        "use_bias": has(gguf, "ssm_in.bias"),
        "use_conv_bias": has(gguf, "ssm_conv1d.bias"),
        "mlp_bias": has(gguf, "ffn_up.bias"),
        "intermediate_size": max(widths) if isinstance(widths, list) else widths,
    }


def mamba2(gguf: Gguf) -> dict[str, Any]:
    inner, heads = needed(gguf, "ssm.inner_size"), needed(gguf, "ssm.time_step_rank")
    return {
        "head_dim": inner // heads,
        "expand": inner // needed(gguf, "embedding_length"),
        "use_bias": has(gguf, "ssm_in.bias"),
        "use_conv_bias": has(gguf, "ssm_conv1d.bias"),
    }


def phimoe(gguf: Gguf) -> dict[str, Any]:
    """Return what Phi 3.5 says; a file has another size of stretched positions than its config."""
    size = {"short_mscale": MSCALE, "long_mscale": MSCALE}
    return {
        "sliding_window": gguf.value("attention.sliding_window") or None,
        "lm_head_bias": "output.bias" in gguf.tensors,
        **biased(gguf),
        **{name: table | size for name, table in scaling(gguf).items()},
    }


def mistral3(gguf: Gguf) -> dict[str, Any]:
    """Read Ministral 3, whose queries grow, or an earlier Mistral that sees."""
    grows = gguf.value("attention.temperature_scale")
    if grows is None:
        return {"model_type": "mistral"}
    size = gguf.value("rope.scaling.yarn_log_multiplier")
    more = {"llama_4_scaling_beta": grows, "mscale": size, "mscale_all_dim": size}
    return {name: table | more for name, table in scaling(gguf).items()}


def gemma3n(gguf: Gguf) -> dict[str, Any]:
    cuts = by_layer(gguf, "activation_sparsity_scale")
    local = gguf.value("rope.freq_base_swa")
    return {
        "activation_sparsity_pattern": [NormalDist().cdf(cut) for cut in cuts[: layer_count(gguf)]],
        "laurel_rank": gguf.tensor("blk.0.laurel_l.weight").shape[0],
        "altup_num_inputs": gguf.value("altup.num_inputs"),
        "altup_active_idx": gguf.value("altup.active_idx"),
        "vocab_size_per_layer_input": gguf.tensor("per_layer_token_embd.weight").shape[0],
        **windows(gguf),
        **({"rope_local_base_freq": local} if local else {}),
    }


def gemma4(gguf: Gguf) -> dict[str, Any]:
    """Read layers that see all and those with a window, each with heads of their own."""
    by_layer(gguf, "attention.sliding_window_pattern")
    kinds = windows(gguf)["layer_types"]
    local, wide = (
        _of_layers(gguf.value("attention.head_count_kv"), kinds, kind) for kind in (SLIDING, FULL)
    )
    widths = gguf.value("feed_forward_length")
    keys, values = (layers_with(gguf, f"attn_{part}.weight") for part in "kv")
    factors = gguf.numbers("rope_freqs.weight")
    embedded = gguf.tensors.get("per_layer_token_embd.weight")
    rotated = {
        "rope_type": "proportional",
        "partial_rotary_factor": factors.count(1) / len(factors),
    }
    return {
        **windows(gguf),
        "num_key_value_heads": local,
        "num_global_key_value_heads": wide,
        "attention_k_eq_v": any(k and not v for k, v in zip(keys, values, strict=True)),
        "enable_moe_block": has(gguf, "ffn_gate_inp.weight"),
        "intermediate_size": widths[0] if isinstance(widths, list) else widths,
        "use_double_wide_mlp": isinstance(widths, list) and len(set(widths)) > 1,
        "vocab_size_per_layer_input": embedded.shape[0] if embedded else 1,
        "rope_scaling": None,
        "rope_parameters": {
            SLIDING: {
                "rope_type": "default",
                "rope_theta": gguf.value("rope.freq_base_swa") or 1e4,
            },
            FULL: rotated | {"rope_theta": gguf.value("rope.freq_base")},
        },
    }


def _of_layers(value: Any, kinds: list[str], kind: str) -> Any:
    """Return the value that layers of a kind have, of all or of a list with one for each."""
    if not isinstance(value, list):
        return value
    return next((each for each, its in zip(value, kinds, strict=False) if its == kind), None)


def glm4_moe(gguf: Gguf) -> dict[str, Any]:
    return biased(gguf) | partly(gguf) | {"use_qk_norm": has(gguf, "attn_q_norm.weight")}


def deepseek2(gguf: Gguf) -> dict[str, Any]:
    """Read DeepSeek V2 or V3, which scores by sigmoids, with positions stretched as they have it.

    Keys' and values' projection is split, so that a key head is as wide as the latent; it is whole
    in older files.
    """
    heads, rotated = needed(gguf, "attention.head_count"), needed(gguf, "rope.dimension_count")
    width, value = (
        gguf.value(f"attention.{part}_length_mla") or needed(gguf, f"attention.{part}_length")
        for part in ("key", "value")
    )
    third = gguf.value("expert_gating_func") == SIGMOID or has(gguf, "exp_probs_b.bias")
    limited = (gguf.value("expert_group_count") or 1) > 1
    size = (gguf.value("rope.scaling.yarn_log_multiplier") or 0) * 10  # a tenth is in the file
    sizes = {"mscale": size, "mscale_all_dim": size} if size else {}
    usual = ("deepseek_v2", "group_limited_greedy" if limited else "greedy")
    model_type, method = ("deepseek_v3", "noaux_tc") if third else usual
    return {
        "model_type": model_type,
        "topk_method": method,
        "num_key_value_heads": heads,
        "q_lora_rank": gguf.value("attention.q_lora_rank"),
        "qk_nope_head_dim": width - rotated,
        "v_head_dim": value,
        "norm_topk_prob": bool(gguf.value("expert_weights_norm")),
        **{name: table | sizes for name, table in scaling(gguf).items()},
    }
