"""Writes tiny GGUF files by llama.cpp's own converter, and what transformers computes of the same.

It needs torch, transformers, sentencepiece and llama.cpp's sources (those of the sdist of
llama-cpp-python will do):

    python tests/engine/gguf/make_golden.py LLAMA_CPP [NAME ...]
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
PROMPT = [3, 17, 4, 40, 9, 9, 31, 22, 0, 47, 12, 5, 6, 28, 33, 2, 19, 44, 8, 1]
BASE: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FULL = ["full_attention"] * 2
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 32}
MULTIPLIERS = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.3,
    "logits_scaling": 2.0,
}
SMALL_EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
DELTA = {
    "head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 3,
}
MAMBA = {
    "layer_types": ["mamba", "attention"],
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "shared_intermediate_size": 64,
}
NEMOTRON = {
    "num_hidden_layers": 4,
    "layers_block_type": ["mamba", "mlp", "attention", "mlp"],
    "head_dim": 16,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "n_groups": 2,
    "ssm_state_size": 16,
    "chunk_size": 16,
}
GEMMA4 = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "head_dim": 16,
    "global_head_dim": 32,
    "sliding_window": 8,
    "intermediate_size": 32,
    "final_logit_softcapping": 10.0,
}
ROUTED = {
    "first_k_dense_replace": 1,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "routed_scaling_factor": 2.5,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "q_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}
QUARTER = {"partial_rotary_factor": 0.25}
ROPE = {"rope_type": "default", "rope_theta": 1000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
# By name: the class of transformers, and its config.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {"rope_parameters": LLAMA3, "attention_bias": True}),
    "llama_tied": ("LlamaForCausalLM", {"tie_word_embeddings": True, "rope_parameters": ROPE}),
    "mistral": ("MistralForCausalLM", {"head_dim": 16, "sliding_window": None}),
    "mixtral": ("MixtralForCausalLM", {"num_local_experts": 4, "sliding_window": None}),
    "granite": ("GraniteForCausalLM", MULTIPLIERS),
    "smollm3": ("SmolLM3ForCausalLM", {"num_hidden_layers": 4}),
    "qwen2": ("Qwen2ForCausalLM", {"rope_parameters": ROPE}),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        {**EXPERTS, "shared_expert_intermediate_size": 48, "decoder_sparse_step": 1},
    ),
    "qwen3": (
        "Qwen3ForCausalLM",
        {
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "qwen3_moe": ("Qwen3MoeForCausalLM", {**EXPERTS, "head_dim": 16, "norm_topk_prob": True}),
    "gemma": ("GemmaForCausalLM", {"head_dim": 16, "tie_word_embeddings": True}),
    "gemma2": (
        "Gemma2ForCausalLM",
        {
            "head_dim": 16,
            "tie_word_embeddings": True,
            "sliding_window": 8,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 20.0,
            "final_logit_softcapping": 10.0,
        },
    ),
    "gemma3": (
        "Gemma3ForCausalLM",
        {
            "head_dim": 16,
            "tie_word_embeddings": True,
            "sliding_window": 8,
            "query_pre_attn_scalar": 16,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0},
            },
        },
    ),
    "phi3": (
        "Phi3ForCausalLM",
        {
            "original_max_position_embeddings": 16,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1000.0,
                "long_factor": [1.0, 1.5, 2.5, 4.0],
                "short_factor": [1.0, 1.1, 1.3, 1.6],
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "olmo2": ("Olmo2ForCausalLM", {}),
    "olmo3": ("Olmo3ForCausalLM", {"num_hidden_layers": 4, "sliding_window": 8}),
    "gpt_oss": (
        "GptOssForCausalLM",
        {
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "intermediate_size": 32,
            "sliding_window": 8,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1000.0,
                "factor": 4.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "glm4": ("Glm4ForCausalLM", {"head_dim": 16}),
    "starcoder2": ("Starcoder2ForCausalLM", {"norm_epsilon": 1e-5, "intermediate_size": 96}),
    "exaone4": ("Exaone4ForCausalLM", {"num_hidden_layers": 4, "sliding_window": 8}),
    "exaone4_full": ("Exaone4ForCausalLM", {"sliding_window": None, "layer_types": FULL}),
    "cohere2": (
        "Cohere2ForCausalLM",
        {"num_hidden_layers": 4, "sliding_window": 8, "rotary_pct": 1.0, "logit_scale": 0.25},
    ),
    "cohere": ("CohereForCausalLM", {"logit_scale": 0.25}),
    "cohere_normed": ("CohereForCausalLM", {"logit_scale": 0.25, "use_qk_norm": True}),
    "phi": (
        "PhiForCausalLM",
        {
            "intermediate_size": 128,
            "num_key_value_heads": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, **QUARTER},
        },
    ),
    "lfm2": (
        "Lfm2ForCausalLM",
        {
            "num_hidden_layers": 3,
            "layer_types": ["conv", "full_attention", "conv"],
            "block_auto_adjust_ff_dim": False,
        },
    ),
    "seed_oss": ("SeedOssForCausalLM", {"head_dim": 16}),
    "qwen3_next": ("Qwen3NextForCausalLM", {**DELTA, **SMALL_EXPERTS}),
    "qwen3_5": ("Qwen3_5ForCausalLM", DELTA),
    "qwen3_5_moe": ("Qwen3_5MoeForCausalLM", {**DELTA, **SMALL_EXPERTS}),
    "granitehybrid": (
        "GraniteMoeHybridForCausalLM",
        {**MAMBA, **MULTIPLIERS, "num_local_experts": 0},
    ),
    "granitehybrid_moe": (
        "GraniteMoeHybridForCausalLM",
        {**MAMBA, **MULTIPLIERS, **LOCAL_EXPERTS},
    ),
    "granitemoe": (
        "GraniteMoeForCausalLM",
        {**MULTIPLIERS, **LOCAL_EXPERTS},
    ),
    "granitemoe_shared": (
        "GraniteMoeSharedForCausalLM",
        {**MULTIPLIERS, **LOCAL_EXPERTS, "shared_intermediate_size": 64},
    ),
    "nemotron_h": ("NemotronHForCausalLM", NEMOTRON),
    "nemotron_h_moe": (
        "NemotronHForCausalLM",
        {
            **NEMOTRON,
            "layers_block_type": ["mamba", "moe", "attention", "moe"],
            "n_routed_experts": 4,
            "moe_intermediate_size": 32,
            "moe_shared_expert_intermediate_size": 64,
            "routed_scaling_factor": 2.5,
        },
    ),
    "glm4_moe": (
        "Glm4MoeForCausalLM",
        {**ROUTED, "head_dim": 16, "use_qk_norm": True, "attention_bias": True},
    ),
    "minimax_m2": (
        "MiniMaxM2ForCausalLM",
        {"head_dim": 16, "rotary_dim": 8, **LOCAL_EXPERTS},
    ),
    "deepseek_v2": (
        "DeepseekV2ForCausalLM",
        {
            **ROUTED,
            **LATENT,
            "n_shared_experts": 2,
            "topk_method": "group_limited_greedy",
            "n_group": 2,
            "topk_group": 1,
            "q_lora_rank": None,
            "routed_scaling_factor": 1.0,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1000.0,
                "factor": 4.0,
                "mscale": 0.707,
                "mscale_all_dim": 0.707,
                "beta_fast": 32,
                "beta_slow": 1,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "ministral3": (
        "Ministral3ForCausalLM",
        {
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1000.0,
                "factor": 16.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "llama_4_scaling_beta": 0.1,
                "original_max_position_embeddings": 8,
            },
        },
    ),
    "lfm2_moe": (
        "Lfm2MoeForCausalLM",
        {
            "num_hidden_layers": 3,
            "layer_types": ["conv", "full_attention", "conv"],
            "num_dense_layers": 1,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
        },
    ),
    "mamba2": (
        "Mamba2ForCausalLM",
        {"num_heads": 4, "head_dim": 16, "state_size": 16, "n_groups": 2, "chunk_size": 16},
    ),
    # A prompt that is not stretched: transformers takes the short factors for all lengths.
    "phimoe": (
        "PhimoeForCausalLM",
        {
            **LOCAL_EXPERTS,
            "attention_bias": True,
            "lm_head_bias": True,
            "original_max_position_embeddings": 32,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1000.0,
                "long_factor": [1.0, 1.5, 2.5, 4.0],
                "short_factor": [1.0, 1.1, 1.3, 1.6],
                "short_mscale": 1.243163121016122,
                "long_mscale": 1.243163121016122,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "gemma3n": (
        "Gemma3nForCausalLM",
        {
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,
            "head_dim": 16,
            "sliding_window": 8,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 48,
            "laurel_rank": 8,
            "activation_sparsity_pattern": [0.8, 0.0, 0.0, 0.0],
            "final_logit_softcapping": 10.0,
        },
    ),
    "gemma4": (
        "Gemma4ForCausalLM",
        {
            **GEMMA4,
            "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 48,
        },
    ),
    "gemma4_moe": (
        "Gemma4ForCausalLM",
        {
            **GEMMA4,
            "num_hidden_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": True,
            "num_experts": 3,
            "top_k_experts": 2,
            "moe_intermediate_size": 32,
        },
    ),
    "deepseek_v3": (
        "DeepseekV3ForCausalLM",
        {**ROUTED, **LATENT, "n_group": 2, "topk_group": 1},
    ),
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "granitehybrid": {"layer_types": ["mamba", "attention"]},
    "granitehybrid_moe": {"layer_types": ["mamba", "attention"]},
    "nemotron_h": {
        "layers_block_type": None,
        "hybrid_override_pattern": "M-*-",
        "num_hidden_layers": 4,
        "num_experts_per_tok": None,
    },
}
# Models with a layer that predicts a further token, which transformers does not compute.
FURTHER = {"glm4_moe"}
# The names that the converter has for classes.
PUBLISHED_AS = {"PhimoeForCausalLM": "PhiMoEForCausalLM"}


def main() -> None:
    sources, *names = sys.argv[1:]
    sys.path[:0] = [sources, str(Path(sources) / "gguf-py")]
    GOLDEN.mkdir(exist_ok=True)
    for name in names or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            write(name, Path(folder))


def write(name: str, folder: Path) -> None:
    import numpy as np
    import torch
    import transformers

    kind, different = MODELS[name]
    model_class = getattr(transformers, kind)
    torch.manual_seed(len(name))
    model = model_class(model_class.config_class(**(BASE | different))).eval()
    with torch.no_grad():
        for place, parameter in model.named_parameters():
            spread = 0.3 if parameter.ndim == 1 else 1.5 / parameter.shape[-1] ** 0.5
            centre = 1.0 if "norm" in place and "gemma" not in name else 0.0
            parameter.copy_((centre + spread * torch.randn_like(parameter)).half().float())
        for place, buffer in model.named_buffers():
            if place in model.state_dict():  # a correction of experts' scores
                buffer.copy_(0.3 * torch.rand_like(buffer))
        logits = model(torch.tensor([PROMPT])).logits[0].numpy()
    model.save_pretrained(folder)
    if name in FURTHER:
        add_layer(folder / "model.safetensors", model.config.num_hidden_layers)
    said = publish(folder / "config.json", PUBLISHED[name]) if name in PUBLISHED else None
    convert(kind, folder, GOLDEN / f"{name}.gguf", said)
    np.save(GOLDEN / f"{name}.npy", logits.astype(np.float32))
    print(name, (GOLDEN / f"{name}.gguf").stat().st_size, float(logits.std()))


def add_layer(path: Path, layers: int) -> None:
    """Add a layer that predicts a further token: the last one's tensors once more."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    last, next_one = f"model.layers.{layers - 1}.", f"model.layers.{layers}."
    copies = {
        name.replace(last, next_one): tensor.clone()
        for name, tensor in tensors.items()
        if name.startswith(last)
    }
    norm = tensors["model.norm.weight"].clone()
    save_file(tensors | copies | {f"{next_one}shared_head.norm.weight": norm}, path)


def publish(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """Return what a config.json says, as makers publish it where transformers 5 does not."""
    said = json.loads(path.read_text()) | fields
    return {name: value for name, value in said.items() if value is not None}


def convert(kind: str, folder: Path, target: Path, config: dict[str, Any] | None) -> None:
    """Convert a model without a tokenizer: its vocabulary is t0, t1 ..., its merges are none."""
    import gguf
    from conversion import get_model_class

    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    vocabulary = ", ".join(f'"t{number}": {number}' for number in range(BASE["vocab_size"]))
    text = f'{{"model": {{"vocab": {{{vocabulary}}}}}, "added_tokens": []}}'
    (folder / "tokenizer.json").write_text(text)

    def set_vocab(self: Any) -> None:
        self.gguf_writer.add_tokenizer_model("gpt2")
        self.gguf_writer.add_tokenizer_pre("gpt-2")
        self.gguf_writer.add_token_list([f"t{number}" for number in range(BASE["vocab_size"])])
        self.gguf_writer.add_token_types([1] * BASE["vocab_size"])
        self.gguf_writer.add_token_merges(["t 0"])

    converter = get_model_class(PUBLISHED_AS.get(kind, kind))
    for each in (converter, getattr(converter, "Ministral3Model", converter)):
        each.set_vocab = set_vocab
    converter.no_mtp = kind.startswith("Qwen3")  # whose layers for further tokens are not made here
    kind_of_file = gguf.LlamaFileType.MOSTLY_F16
    converter(folder, kind_of_file, target, eager=True, hparams=config).write()


if __name__ == "__main__":
    main()
