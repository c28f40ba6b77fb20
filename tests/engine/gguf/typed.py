"""A tiny GGUF file with numbers of many types, all by chance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .writer import Raw, Uint32, write

# The number of a type, how many values a block has in how many bytes, where it has 16-bit factors.
TYPES: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "F32": (0, 1, 4, ()),
    "F16": (1, 1, 2, (0,)),
    "Q4_0": (2, 32, 18, (0,)),
    "Q4_1": (3, 32, 20, (0, 2)),
    "Q5_0": (6, 32, 22, (0,)),
    "Q5_1": (7, 32, 24, (0, 2)),
    "Q8_0": (8, 32, 34, (0,)),
    "Q2_K": (10, 256, 84, (80, 82)),
    "Q3_K": (11, 256, 110, (108,)),
    "Q4_K": (12, 256, 144, (0, 2)),
    "Q5_K": (13, 256, 176, (0, 2)),
    "Q6_K": (14, 256, 210, (208,)),
    "IQ2_XXS": (16, 256, 66, (0,)),
    "IQ1_S": (19, 256, 50, (0,)),
    "IQ4_NL": (20, 32, 18, (0,)),
    "IQ3_S": (21, 256, 110, (0,)),
    "IQ4_XS": (23, 256, 136, (0,)),
    "TQ2_0": (35, 256, 66, (64,)),
    "MXFP4": (39, 32, 17, ()),
    "NVFP4": (40, 64, 36, ()),
}
EXPONENTS = {"MXFP4": (1, 117, 123), "NVFP4": (4, 8, 24)}  # their bytes, from and to
WIDTH, ROWS = 256, 64
# All that MLX's layout holds, and what it does not.
EXACT = {
    "token_embd": "Q8_0",
    "output": "IQ2_XXS",
    "blk.0.attn_q": "Q4_0",
    "blk.0.attn_k": "Q4_1",
    "blk.0.attn_v": "Q5_0",
    "blk.0.attn_output": "Q5_1",
    "blk.0.ffn_gate": "IQ4_NL",
    "blk.0.ffn_up": "MXFP4",
    "blk.0.ffn_down": "Q4_K",
    "blk.1.attn_q": "Q5_K",
    "blk.1.attn_k": "IQ4_XS",
    "blk.1.attn_v": "TQ2_0",
    "blk.1.attn_output": "F16",
    "blk.1.ffn_gate": "IQ1_S",
    "blk.1.ffn_up": "NVFP4",
    "blk.1.ffn_down": "IQ3_S",
}
HALVES = EXACT | {"output": "Q6_K", "blk.0.attn_v": "Q3_K", "blk.1.ffn_down": "Q6_K"}
PROMPT = [3, 17, 4, 40, 9, 9, 31, 22, 0, 47, 12, 5, 63]
TOKENS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,:;!?-", "\u0120", "\u010a", "ab", "\u0120a"]
SAID: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": Uint32(2),
    "llama.context_length": Uint32(128),
    "llama.embedding_length": Uint32(WIDTH),
    "llama.feed_forward_length": Uint32(WIDTH),
    "llama.attention.head_count": Uint32(4),
    "llama.attention.head_count_kv": Uint32(1),
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": [
        "<s>", "</s>", *TOKENS, *(f"<unused{i}>" for i in range(ROWS - 2 - len(TOKENS)))
    ],
    "tokenizer.ggml.token_type": [3, 3, *[1] * len(TOKENS), *[5] * (ROWS - 2 - len(TOKENS))],
    "tokenizer.ggml.merges": ["a b", "\u0120 a"],
    "tokenizer.ggml.bos_token_id": Uint32(0),
    "tokenizer.ggml.eos_token_id": Uint32(1),
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
}  # fmt: skip


def blocks(type: str, rows: int, columns: int, random: np.random.Generator) -> bytes:
    """Random numbers of a type."""
    _, values, size, places = TYPES[type]
    raw = random.integers(0, 256, (rows * columns // values, size), dtype=np.uint8)
    spread = 0.01 / 32 if values == 256 and type != "TQ2_0" else 0.01
    for place in places:
        factors = random.normal(0, spread, (len(raw), 1)).astype(np.float16)
        raw[:, place : place + 2] = factors.view(np.uint8)
    if type in EXPONENTS:
        count, low, high = EXPONENTS[type]
        raw[:, :count] = random.integers(low, high, (len(raw), count))
    if type == "F32":
        raw = (1 + random.normal(0, 0.1, (len(raw), 1)).astype(np.float16)).astype(np.float32)
    return raw.tobytes()


def typed(path: Path, types: Mapping[str, str], more: Mapping[str, Any] | None = None) -> Path:
    """Write a Llama of two layers."""
    random, tensors = np.random.default_rng(1), {}
    for name, type in types.items():
        rows = ROWS if "attn_k" in name or "attn_v" in name or "blk" not in name else WIDTH
        data = blocks(type, rows, WIDTH, random)
        tensors[f"{name}.weight"] = Raw((WIDTH, rows), TYPES[type][0], data)
    norms = ["output_norm", *(f"blk.{i}.{kind}_norm" for i in range(2) for kind in ("attn", "ffn"))]
    for name in norms:
        tensors[f"{name}.weight"] = Raw((WIDTH,), 0, blocks("F32", 1, WIDTH, random))
    return write(path, SAID | dict(more or {}), tensors)
