"""A checkpoint that answers with the beginning of its prompt, where that is of the right length."""

from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from tests.http.scripted_checkpoint import DIM, write_llama
from tests.translate.scripted import letters

END = "<|end|>"
TEMPLATE = f"{{% for m in messages %}}{{{{ m.content }}}}{END}{{% endfor %}}"
HEADS = 5
HIDDEN = HEADS * DIM  # an axis for each of 257 tokens, and one that is always 1


def write(path: Path, length: int) -> Path:
    """Write a Llama of one layer that says again what stands `length` tokens before.

    Its tokens are bytes. Its heads all look back to the same place, by their rope, and each knows
    some of the tokens there.
    """
    path.mkdir()
    encoding = _bytes()
    size = encoding.get_vocab_size()
    embed = np.eye(size, HIDDEN, 1, np.float32)
    embed[:, 0] = 1
    angle = (length - 1) * 10000.0 ** (-np.arange(DIM // 2) / (DIM // 2))
    q, k = np.zeros((2, HEADS, DIM, HIDDEN), np.float32)
    q[:, : DIM // 2, 0] = 4
    k[:, :, 0] = 4 * np.concatenate([np.cos(angle), np.sin(angle)])
    copied = np.eye(HIDDEN, dtype=np.float32)
    copied[0] = 0
    flat, layer = np.zeros((DIM, HIDDEN), np.float32), "model.layers.0."
    tensors = {
        "model.embed_tokens.weight": embed,
        "lm_head.weight": np.eye(size, HIDDEN, 1, np.float32),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
        layer + "input_layernorm.weight": np.ones(HIDDEN, np.float32),
        layer + "post_attention_layernorm.weight": np.ones(HIDDEN, np.float32),
        layer + "self_attn.q_proj.weight": q.reshape(HIDDEN, HIDDEN),
        layer + "self_attn.k_proj.weight": k.reshape(HIDDEN, HIDDEN),
        layer + "self_attn.v_proj.weight": copied,
        layer + "self_attn.o_proj.weight": copied,
        layer + "mlp.gate_proj.weight": flat,
        layer + "mlp.up_proj.weight": flat,
        layer + "mlp.down_proj.weight": np.zeros((HIDDEN, DIM), np.float32),
    }
    return write_llama(path, encoding, tensors, TEMPLATE, END, HEADS, 2 * length + 64)


def turns(text: str, length: int) -> list[dict[str, str]]:
    """Return a conversation to which such a model answers with this text."""
    rest = length - len(text.encode()) - 2
    return [{"role": "user", "content": text}, {"role": "assistant", "content": "." * rest}]


def _bytes() -> tokenizers.Tokenizer:
    vocabulary = {name: i for i, name in enumerate(letters().values())}
    encoding = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoding.decoder = decoders.ByteLevel()
    encoding.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return encoding
