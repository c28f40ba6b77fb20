"""Stand-in tokenizers: a family's control tokens over a tiny vocabulary of its kind."""

# ruff: noqa: RUF001 - tokens and texts hold such letters

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from tests.translate.families import TEMPLATES, Family

# Words that a vocabulary has beside its bytes: ends of lines, indents, what templates write.
WORDS = (
    *(
        "\n\n",
        "\n\n\n",
        ".\n\n",
        ".\n",
        ":\n",
        ">\n",
        "  ",
        "    ",
        "\t\t",
        "\r\n",
        ' "',
        '":',
        '",',
    ),
    *("Hello", " Hello", "user", "assistant", "system", "model", "tool", " the", " is", "think"),
    *("function", " name", "date", "20", "00", "'s", "...", "https", "<s", "/s", " <", "|>"),
    *("é", "東京", "👍", " {", "{{", "}}", "[INST", "###"),
)
SPLITS = {
    "llama3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "qwen": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "deepseek": (
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
        r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "o200k": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+",
    ),
    "tekken": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}


def save(family: Family, name: str, directory: Path) -> None:
    """Write the family's tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    build(family).save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **family.names}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    source = (TEMPLATES / f"{name}.jinja").read_text()
    (directory / "chat_template.jinja").write_text(source)


def build(family: Family) -> Tokenizer:
    sentencepiece = family.kind in ("prepend", "gemma")
    encoding = _sentencepiece(family.kind == "prepend") if sentencepiece else _bytes(family.kind)
    if family.kind == "gemma":  # its newlines and indents are added tokens
        spaces = [character * n for character in "\n▁" for n in range(2, 9)]
        encoding.add_tokens([AddedToken(text, normalized=False) for text in ("\n", *spaces)])
    for special, texts in ((True, family.special), (False, family.plain)):
        tokens = [
            AddedToken(
                text, special=special, normalized=family.normalized, rstrip=_rstrip(family, text)
            )
            for text in texts.split()
        ]
        (encoding.add_special_tokens if special else encoding.add_tokens)(tokens)
    bos = family.names.get("bos_token")
    if bos and (sentencepiece or bos in ("<s>", "<|begin_of_text|>")):  # before bare texts
        token = encoding.token_to_id(bos)
        encoding.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, token)]
        )
    return encoding


def _rstrip(family: Family, text: str) -> bool:
    return family.rstrip and text not in ("<unk>", "<s>", "<|endoftext|>")


def _bytes(kind: str) -> Tokenizer:
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = [level.pre_tokenize_str(word)[0][0] for word in WORDS]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    encoding = Tokenizer(models.BPE(*_merged(letters, words)))
    if kind == "qwen":
        encoding.normalizer = normalizers.NFC()
    if kind == "gpt2":
        encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        splits = [pre_tokenizers.Split(Regex(p), "isolated") for p in SPLITS[kind]]
        encoding.pre_tokenizer = pre_tokenizers.Sequence([*splits, level])
    encoding.decoder = decoders.ByteLevel()
    return encoding


def _sentencepiece(prepend: bool) -> Tokenizer:
    letters = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    letters += [chr(code) for code in range(33, 127)] + ["é", "ï", "東"]
    words = [word.replace(" ", "▁") for word in WORDS if not set(word) & set("\n\r\t京👍")]
    vocabulary, merges = _merged(letters, words)
    encoding = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    spaces = normalizers.Replace(" ", "▁")
    start = [normalizers.Prepend("▁")] if prepend else []
    encoding.normalizer = normalizers.Sequence([*start, spaces])
    if not prepend:
        encoding.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    fused = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    encoding.decoder = decoders.Sequence(
        [*fused, *([decoders.Strip(" ", 1, 0)] if prepend else [])]
    )
    return encoding


def _merged(
    letters: Sequence[str], words: Sequence[str]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return a vocabulary of letters and words, and the merges that build each from the left."""
    merges = dict.fromkeys((word[:end], word[end]) for word in words for end in range(1, len(word)))
    names = dict.fromkeys([*letters, *(left + right for left, right in merges)])
    return {name: index for index, name in enumerate(names)}, list(merges)
