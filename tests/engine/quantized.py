"""Tiny checkpoints that are quantized: a golden model of tests/architectures, and a recipe."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bessemer.architectures.storage import Mode
from tests.architectures.parity import tiny
from tests.architectures.tiny import Tiny, tensor

GOLDEN = Path(__file__).parent / "golden" / "quantized.npz"
ROWS = slice(None, None, 5)  # of the first prompt, whose logits the golden file has

Arguments = tuple[int, int, Mode, str]  # group, bits, mode and mixed recipe


@dataclass(frozen=True)
class Case:
    """`changes` of the golden model's config say what mlx_lm has to be told, or cannot do.

    `within` is the family that wraps it, `more` are tensors that published checkpoints have and the
    golden model lacks; `instead` is as of a golden model's case.
    """

    golden: str
    recipe: Arguments = (32, 4, "affine", "")
    changes: Mapping[str, Any] = field(default_factory=dict)
    within: str = ""
    more: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)

    def tiny(self) -> Tiny:
        out = tiny(self.golden, self.changes)
        more = {name: tensor(name, shape) for name, shape in self.more.items()}
        if not self.within:
            return Tiny(out.config, out.tensors | more)
        config = {"model_type": self.within, "text_config": out.config}
        every = (out.tensors | more).items()
        return Tiny(config, {name.replace("model.", INSIDE, 1): value for name, value in every})


INSIDE = "model.language_model."

MIXED: Arguments = (32, 4, "affine", "mixed_3_6")
NO_WINDOW = {"sliding_window": None}
DELTA = {"linear_conv_kernel_dim": 4, "full_attention_interval": 2}
NEXT = {**DELTA, "mlp_only_layers": [], "partial_rotary_factor": 0.25, "norm_topk_prob": True}
INNER = {f"text_config.{name}": value for name, value in DELTA.items()}
GRANITE = {
    "attention_bias": False,
    "mamba_d_conv": 4,
    "mamba_proj_bias": False,
    "mamba_conv_bias": True,
    "position_embedding_type": "nope",
    "mamba_n_groups": 1,
    "mamba_d_state": 32,
}
OSS = {
    "swiglu_limit": 7.0,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "rope_scaling": None,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
}
NEMOTRON = {
    "attention_bias": False,
    "mamba_proj_bias": False,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_min": 1e-9,  # mlx_lm has no least
}
MAMBA = {
    "n_groups": 1,
    "state_size": 32,
    "layer_norm_epsilon": 1e-5,
    "intermediate_size": 128,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_rank": 4,
}
BORROWED = {
    f"model.layers.{layer}.self_attn.{part}.weight": shape
    for layer in (3, 4)
    for part, shape in {"k_proj": (32, 64), "v_proj": (32, 64), "k_norm": (16,)}.items()
}
WIDER = {
    f"model.layers.{layer}.shared_mlp.{part}.weight": shape
    for layer in range(3)
    for part, shape in {"input_linear": (128, 48), "output_linear": (48, 64)}.items()
}
LFM2 = {"conv_bias": False, "conv_L_cache": 3}
PHI3 = {
    "sliding_window": None,
    "original_max_position_embeddings": 40,
    "rope_scaling.original_max_position_embeddings": 40,
    "rope_scaling.attention_factor": None,
}
PHIMOE = {
    "original_max_position_embeddings": 2,
    "rope_scaling.short_mscale": 1.4,
}

CASES: dict[str, Case] = {
    "llama_4": Case("llama_llama3"),
    "llama_2": Case("llama_llama3", (32, 2, "affine", "")),
    "llama_3": Case("llama_llama3", (64, 3, "affine", "")),
    "llama_mixed": Case("llama_llama3", MIXED),
    "llama_mxfp4": Case("llama_llama3", (32, 4, "mxfp4", "")),
    "llama_mxfp8": Case("llama_llama3", (32, 8, "mxfp8", "")),
    "llama_nvfp4": Case("llama_llama3", (16, 4, "nvfp4", "")),
    "cohere": Case("cohere_plain"),
    "cohere2": Case("cohere2_pattern"),
    "deepseek_v2": Case("deepseek_v2_lite_yarn"),
    "deepseek_v3": Case("deepseek_v3_groups_yarn"),
    "deepseek_v3_mxfp8": Case("deepseek_v3_groups_yarn", (32, 8, "mxfp8", "")),
    "deepseek_v3_mixed": Case("deepseek_v3_groups_yarn", MIXED),
    "kimi_k2": Case("deepseek_v3_groups_yarn", changes={"model_type": "kimi_k2"}),
    "exaone4": Case("exaone4_every_fourth", changes={"sliding_window_pattern": "LLLG"}),
    "gemma": Case("gemma_mha", instead={"mlx.nn.gelu": "mlx.nn.gelu_approx"}),
    "gemma2": Case("gemma2_alternating", changes={"sliding_window": 256}),
    "gemma3": Case("gemma3_with_images", changes={"vocab_size": 80}),
    "gemma3_text": Case("gemma3_text_older"),
    "gemma3n": Case("gemma3n_sparse_lending", within="gemma3n", more=BORROWED),
    "gemma4": Case("gemma4_with_images", changes={"vocab_size": 80}),
    "gemma4_text": Case("gemma4_per_layer_lending"),
    "gemma4_experts": Case("gemma4_experts_keys_as_values"),
    "glm4": Case("glm4_biased"),
    "glm4_moe": Case("glm4_moe_groups_normed_biased", changes={"rope_scaling": None}),
    "glm4_moe_lite": Case(
        "glm4_moe_lite_kinds_yarn",
        changes={
            "first_k_dense_replace": 0,
            "moe_layer_freq": 2,
            "rope_scaling": None,
            "rms_norm_eps": 1e-6,
            "n_group": 1,
            "topk_group": 1,
        },
    ),
    "gpt_oss": Case("gpt_oss_yarn", changes=OSS),
    "gpt_oss_blocks": Case(
        "gpt_oss_blocks", changes={**OSS, "layer_types": OSS["layer_types"][:2]}
    ),
    "gpt_oss_mxfp4": Case("gpt_oss_yarn", (32, 4, "mxfp4", ""), OSS),
    "granite": Case("granite_multiplied"),
    "granite_nvfp4": Case("granite_multiplied", (16, 4, "nvfp4", "")),
    "granitemoe": Case("granitemoe_multiplied"),
    "granitemoehybrid": Case("granitemoehybrid_experts", changes=GRANITE),
    "granitemoehybrid_dense": Case(
        "granitemoehybrid_dense_odd_biased_tied",
        changes={
            "layer_types": ["mamba", "attention", "mamba"],
            "mamba_d_head": 16,
            "intermediate_size": 64,
            "shared_intermediate_size": 64,
        },
        more=WIDER,
    ),
    "lfm2": Case("lfm2_adjusted_tied", changes={**LFM2, "block_dim": 64}),
    "lfm2_moe": Case(
        "lfm2_moe_corrected_tied", changes={**LFM2, "norm_topk_prob": True, "use_expert_bias": True}
    ),
    "mamba2": Case("mamba2_groups", changes=MAMBA),
    "minimax_m2": Case("minimax_m2_half", changes={"shared_intermediate_size": 0}),
    "ministral3": Case("ministral3_wide_head_tied"),
    "mistral": Case("mistral_window_wide_head", changes=NO_WINDOW),
    "mistral3": Case("mistral3_mistral"),
    "mistral3_ministral3": Case("mistral3_ministral3_tied"),
    "mixtral_5": Case("mixtral_window", (32, 5, "affine", ""), NO_WINDOW),
    "nemotron_h": Case("nemotron_h_plain", changes=NEMOTRON),
    "nemotron_h_experts": Case(
        "nemotron_h_experts",
        changes={**NEMOTRON, "mlp_bias": False, "n_shared_experts": 1, "norm_topk_prob": True},
    ),
    "olmo2": Case("olmo2_mha"),
    "olmo3": Case("olmo3_yarn"),
    "phi": Case("phi_half", changes={"partial_rotary_factor": 0.5}),
    "phi3": Case("phi3_su_window", changes=PHI3),
    "phimoe": Case("phimoe_longrope_biased", changes=PHIMOE),
    "qwen2": Case("qwen2_window_from_layer_tied", changes={"use_sliding_window": False}),
    "qwen2_moe": Case("qwen2_moe_shared"),
    "qwen3_8": Case("qwen3_layer_types_tied", (32, 8, "affine", ""), {"use_sliding_window": False}),
    "qwen3_moe_6": Case("qwen3_moe_normalised", (32, 6, "affine", "")),
    "qwen3_moe_mixed": Case("qwen3_moe_normalised", MIXED),
    "qwen3_next": Case("qwen3_next_shared_keys", changes=NEXT),
    "qwen3_5": Case("qwen3_5_images", changes=INNER),
    "qwen3_5_text": Case("qwen3_5_text", changes=DELTA),
    "qwen3_5_moe_text_8": Case("qwen3_5_experts", (32, 8, "affine", ""), DELTA),
    "seed_oss": Case("seed_oss_inputs_biased"),
    "smollm3": Case("smollm3_interval"),
    "starcoder2": Case("starcoder2_window_tied", changes={**NO_WINDOW, "hidden_act": "gelu"}),
}


def label_fp8(file: Path, name: str) -> None:
    """Say in a file's header that a tensor holds 8-bit floats: MLX saves them as plain bytes."""
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header[name]["dtype"] = "F8_E4M3"
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
