"""Writes tiny GGUF files by llama.cpp's own converter, and what transformers computes of the same.

It needs torch, transformers, sentencepiece and llama.cpp's sources (those of the sdist of
llama-cpp-python will do):

    python tests/engine/checkpoint/gguf/make_golden.py LLAMA_CPP [NAME ...]
"""

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
    "granite": (
        "GraniteForCausalLM",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.3,
            "logits_scaling": 2.0,
        },
    ),
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
}


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
        logits = model(torch.tensor([PROMPT])).logits[0].numpy()
    model.save_pretrained(folder)
    convert(kind, folder, GOLDEN / f"{name}.gguf")
    np.save(GOLDEN / f"{name}.npy", logits.astype(np.float32))
    print(name, (GOLDEN / f"{name}.gguf").stat().st_size, float(logits.std()))


def convert(kind: str, folder: Path, target: Path) -> None:
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

    converter = get_model_class(kind)
    converter.set_vocab = set_vocab
    converter(folder, gguf.LlamaFileType.MOSTLY_F16, target, eager=True).write()


if __name__ == "__main__":
    main()
