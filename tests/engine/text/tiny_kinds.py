"""A tiny tokenizer of each kind, all with the same control tokens."""

from collections.abc import Callable

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
LETTERS = "abdeimnrst<>|/_ABCXYZ.,!\u25b2"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level() -> Tokenizer:
    """Build one as GPT-2's, Llama 3's and Qwen's."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("i", "m"), ("<", "|"), ("|", ">"), ("e", "n"), ("en", "d")]
    words = [*letters, *("".join(pair) for pair in merges)]
    encoding = Tokenizer(models.BPE({word: at for at, word in enumerate(words)}, merges))
    encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoding.decoder = decoders.ByteLevel()
    return _with_control(encoding)


def prepending() -> Tokenizer:
    """Build one as Llama 2's: the normalizer puts a space before each text."""
    encoding = Tokenizer(_sentencepiece())
    encoding.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    return _with_control(encoding)


def metaspace(scheme: str = "first") -> Tokenizer:
    """Build one as Mistral's: a space before the first text, or before each."""
    encoding = Tokenizer(_sentencepiece())
    encoding.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return _with_control(encoding)


def unigram() -> Tokenizer:
    """Build one as XLM-RoBERTa's and T5's: names are pieces too, and wide letters are folded."""
    names = [(name, 0.0) for name in CONTROL]
    letters = [(letter, -3.0) for letter in "\u2581" + LETTERS]
    encoding = Tokenizer(models.Unigram([*names, ("<unk>", 0.0), *letters], unk_id=len(names)))
    encoding.normalizer = normalizers.NFKC()
    encoding.pre_tokenizer = pre_tokenizers.Metaspace()
    return _with_control(encoding)


def word_piece() -> Tokenizer:
    """Build one as BERT's."""
    words = [*CONTROL, "[UNK]", *LETTERS.lower(), *(f"##{letter}" for letter in LETTERS.lower())]
    vocabulary = {word: at for at, word in enumerate(dict.fromkeys(words))}
    encoding = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    encoding.normalizer = normalizers.BertNormalizer()
    encoding.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _with_control(encoding)


def words() -> Tokenizer:
    """Build one of whole words between spaces, the names among them."""
    vocabulary = {word: at for at, word in enumerate([*CONTROL, "<unk>", "a", "is", *LETTERS])}
    encoding = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    encoding.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _with_control(encoding)


def late() -> Tokenizer:
    """Build one that looks for its control tokens in folded, lower-case text."""
    encoding = byte_level()
    plain = Tokenizer(encoding.model)
    plain.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    plain.pre_tokenizer = encoding.pre_tokenizer
    return _with_control(plain, normalized=True)


def _sentencepiece() -> models.BPE:
    vocabulary = ["<unk>", *CONTROL, *BYTES, "\u2581", *LETTERS, "\u2581<", "</", "im"]
    merges = [("\u2581", "<"), ("<", "/"), ("i", "m")]
    return models.BPE(
        {word: at for at, word in enumerate(vocabulary)},
        merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )


def _with_control(encoding: Tokenizer, normalized: bool = False) -> Tokenizer:
    tokens = [AddedToken(name, special=True, normalized=normalized) for name in CONTROL]
    encoding.add_tokens(tokens)
    return encoding


def control_ids(encoding: tokenizers.Tokenizer) -> set[int | None]:
    return {encoding.token_to_id(name) for name in CONTROL}


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "prepending": prepending,
    "metaspace": metaspace,
    "metaspace before each": lambda: metaspace("always"),
    "unigram": unigram,
    "word piece": word_piece,
    "words": words,
    "late": late,
}
