"""A checkpoint that answers every prompt with a script of tokens."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import tokenizers
from safetensors.numpy import save_file

DIM = 64  # of a head: by its rope the scripted one looks one token back


def write(
    path: Path,
    encoding: tokenizers.Tokenizer,
    script: Sequence[int],
    template: str,
    eos: str,
    context: int = 4096,
) -> Path:
    """Write a Llama of one layer whose next token follows from the last two.

    A token may come several times in a script if what is before it tells its places apart. After
    any other token the script begins.
    """
    path.mkdir()
    size = encoding.get_vocab_size()
    names = list(dict.fromkeys(script))
    own = {token: 2 + at for at, token in enumerate(names)}  # axes; 0 is always 1, 1 any other's
    before = {token: 2 + len(names) + at for at, token in enumerate(names)}
    hidden = -(-(2 + 2 * len(names)) // DIM) * DIM
    embed, head = np.zeros((2, size, hidden), np.float32)
    embed[:, :2] = 1
    for token in names:
        embed[token, 1], embed[token, own[token]] = 0, 1
    head[script[0], 1] = 4
    for at, (token, following) in enumerate(pairwise(script)):
        again = token in script[:at]  # the first place counts where nothing tells
        head[following, own[token]] = max(head[following, own[token]], 3.5 if again else 4)
        if at and script.count(token) > 1:
            head[following, before[script[at - 1]]] = 3
    tensors = _tensors(embed, head, names, own, before)
    return write_llama(path, encoding, tensors, template, eos, context=context)


def write_llama(
    path: Path,
    encoding: tokenizers.Tokenizer,
    tensors: dict[str, np.ndarray],
    template: str,
    eos: str,
    heads: int = 1,
    context: int = 4096,
) -> Path:
    """Write the files of a Llama of one layer; a head is as wide as its feed-forward layer."""
    size, hidden = tensors["model.embed_tokens.weight"].shape
    save_file(tensors, path / "model.safetensors")
    config = {
        "model_type": "llama",
        "vocab_size": size,
        "hidden_size": hidden,
        "intermediate_size": DIM,
        "num_hidden_layers": 1,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": DIM,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    }
    (path / "config.json").write_text(json.dumps(config))
    encoding.save(str(path / "tokenizer.json"))
    settings = {"eos_token": eos, "chat_template": template}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def _tensors(
    embed: np.ndarray,
    head: np.ndarray,
    names: Sequence[int],
    own: dict[int, int],
    before: dict[int, int],
) -> dict[str, np.ndarray]:
    hidden = embed.shape[1]
    q, k, v = np.zeros((3, DIM, hidden), np.float32)
    o = np.zeros((hidden, DIM), np.float32)
    half = DIM // 2
    angle = 10000.0 ** (-np.arange(half) / half)
    q[:half, 0] = 14
    k[:half, 0], k[half:, 0] = 14 * np.cos(angle), 14 * np.sin(angle)
    for at, token in enumerate(names):
        v[at, own[token]], o[before[token], at] = 1, 0.2
    flat, layer = np.zeros((DIM, hidden), np.float32), "model.layers.0."
    return {
        "model.embed_tokens.weight": embed,
        "lm_head.weight": head * 4,
        "model.norm.weight": np.ones(hidden, np.float32),
        layer + "input_layernorm.weight": np.ones(hidden, np.float32),
        layer + "post_attention_layernorm.weight": np.ones(hidden, np.float32),
        layer + "self_attn.q_proj.weight": q,
        layer + "self_attn.k_proj.weight": k,
        layer + "self_attn.v_proj.weight": v,
        layer + "self_attn.o_proj.weight": o,
        layer + "mlp.gate_proj.weight": flat,
        layer + "mlp.up_proj.weight": flat,
        layer + "mlp.down_proj.weight": np.zeros((hidden, DIM), np.float32),
    }
