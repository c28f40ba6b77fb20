"""What golden/vectors.npz has vectors of: tiny models of every kind of cache, and SmolLM2's."""

from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "vectors.npz"
FAMILIES = (
    "llama_llama3",
    "llama_dynamic",
    "phi3_longrope_partial_tied",
    "mistral_ministral_all_slide",
    "qwen3_layer_types_tied",
    "gpt_oss_yarn",
    "gemma3_text_older",
    "gemma3n_sparse_lending",
    "gemma4_per_layer_lending",
    "deepseek_v2_lite_yarn",
    "lfm2_adjusted_tied",
    "mamba2_groups",
    "qwen3_next_shared_keys",
    "nemotron_h_plain",
    "granitemoehybrid_experts",
    "cohere2_pattern",
)
TEXTS = (
    "A cat sits on the mat.",
    "A kitten is resting on the rug.",
    "Share prices fell sharply on Tuesday.",
    "Gr\u00f6\u00dfe, \u65e5\u672c\u8a9e",
    "Steel is iron with a little carbon. " * 30,
)
