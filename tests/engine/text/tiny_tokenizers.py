"""Tiny tokenizers of both common kinds, trained on the spot."""

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from bessemer.engine.text.tokenizer import Tokenizer

TEXTS = [
    "Hello, world! How are you?",
    "naïve café - Zürich, 東京, Ελλάδα",
    "emoji 👩‍👩‍👧‍👦 and 🇨🇭 and 👍🏽 done",
    "  leading and   inner   spaces \n\ttabs\n",
    "mixed <|end|> markers <|end|>",
    "null \x00 byte and \ufffd itself",
]


def byte_level() -> tokenizers.Tokenizer:
    encoding = tokenizers.Tokenizer(models.BPE())
    encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoding.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    encoding.train_from_iterator(TEXTS * 3, trainer)
    encoding.add_tokens(["<added word>"])
    return encoding


def sentencepiece() -> tokenizers.Tokenizer:
    """Build one as Llama 2's and Mistral's: spaces as U+2581, bytes for unknown characters."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = sorted({c for c in "".join(TEXTS[:2]).replace(" ", "\u2581") if ord(c) < 0x3000})
    words = ["\u2581H", "el", "\u2581Hel", "lo"]
    vocabulary = {name: i for i, name in enumerate(["<unk>", *bytes_, *letters, *words])}
    merges = [("\u2581", "H"), ("e", "l"), ("\u2581H", "el"), ("l", "o")]
    encoding = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    encoding.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    encoding.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    encoding.add_special_tokens(["<|end|>"])
    return encoding


def make_tokenizer(encoding: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer(encoding, {}, None)


def id_of(tokenizer: Tokenizer, name: str) -> int:
    out = tokenizer.id_of(name)
    assert out is not None
    return out
