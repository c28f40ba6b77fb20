"""Tiny tokenizers of every kind, whose ids under many settings transformers has given."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.processors import TemplateProcessing

GOLDEN = Path(__file__).parent / "golden" / "tokenizers.json"
WORDS = ("hello", "world", "the", "in", "def", "return", "12", "34", "</", "s>", "ing", "nai")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?()<>/|_-'\"\n\té東של"
TEXTS = (
    "",
    "hello world",
    "  two  spaces ",
    " ",
    "a\n\n\tthe hello\n",
    "nul \x00 byte",
    "<s> hello </s><|end|> the <added> in<added>in <unk>",
    "[CLS] hello [SEP] <new>the <new> in<pad>",
    "naïve é e\u0301 Ελλάδα",
    "東京 日本語",
    "👩\u200d👩\u200d👧 👍🏽",
    "שלום עולם",
    "12345 34.5",
    "def f(x):\n    return x['in']",
    "HELLO Hello",
)
PAIR = "hello world", " the in"
LONG = "hello the world in the hello world"
CUT = 7  # tokens to which LONG and a pair of it are cut


def byte_alphabet() -> dict[int, str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + index) for index, byte in enumerate(others)
    }


def _grown(words: Iterable[str], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Grow a vocabulary by words, each merged from the left letter by letter."""
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        for at in range(1, len(word)):
            merges[word[:at], word[at]] = None
            vocabulary.setdefault(word[: at + 1], len(vocabulary))
    return list(merges)


def byte_level() -> Tokenizer:
    alphabet = byte_alphabet()
    vocabulary = {name: number for number, name in enumerate(alphabet.values())}
    names = ["".join(alphabet[byte] for byte in word.encode()) for word in WORDS]
    merges = _grown([*names, *(alphabet[32] + name for name in names)], vocabulary)
    made = Tokenizer(BPE(vocabulary, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def _sentencepiece() -> Tokenizer:
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    first = ["<unk>", "<s>", "</s>", *bytes_, "\u2581", *LETTERS]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(first))}
    spaced = ["\u2581" + word for word in WORDS]
    merges = _grown(["\u2581\u2581", "\u2581\u2581\u2581", *WORDS, *spaced], vocabulary)
    made = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return made


def prepended() -> Tokenizer:
    """Build one as Llama 2's: a normalizer puts a space before every stretch of text."""
    made = _sentencepiece()
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    return made


def metaspace() -> Tokenizer:
    made = _sentencepiece()
    made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", "first", split=False)
    return made


def replaced() -> Tokenizer:
    """Build one as Gemma's: spaces are replaced, and none is put before a text."""
    made = _sentencepiece()
    made.normalizer = normalizers.Replace(" ", "\u2581")
    return made


def unigram() -> Tokenizer:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", *LETTERS]
    words = [space + word for word in WORDS for space in ("", "\u2581")]
    scores = [(piece, -float(at) / 8) for at, piece in enumerate(dict.fromkeys([*pieces, *words]))]
    made = Tokenizer(Unigram(scores, 3, False))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", "always")
    made.decoder = decoders.Metaspace("\u2581", "always")
    return made


def wordpiece() -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS, "##ing", "##in"]
    vocabulary = {piece: at for at, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return made


KINDS: Mapping[str, Callable[[], Tokenizer]] = {
    "byte_level": byte_level,
    "prepended": prepended,
    "metaspace": metaspace,
    "replaced": replaced,
    "unigram": unigram,
    "wordpiece": wordpiece,
}
SWITCHES = (
    "legacy",
    "add_prefix_space",
    "split_special_tokens",
    "do_lower_case",
    "strip_accents",
    "clean_up_tokenization_spaces",
)
# What a cell is of which nothing else is said.
PLAIN: Mapping[str, Any] = {
    **dict.fromkeys(("tokenizer_class", "model_type", *SWITCHES)),
    **dict.fromkeys(("around", "baked", "by_id", "named", "extra", "map"), "none"),
    "bos_eos": [],
    "added": False,
}
BEGIN_END = {"wordpiece": ("[CLS]", "[SEP]")}
# What tokenizer.json puts around a text, by name: of begin {0} and end {1}.
AROUND = {
    "begin": ("{0}:0 $A:0", "{0}:0 $A:0 {0}:1 $B:1"),
    "both": ("{0}:0 $A:0 {1}:0", "{0}:0 $A:0 {1}:0 {0}:1 $B:1 {1}:1"),
}


def build(kind: str, around: str, baked: str) -> Tokenizer:
    """Build a tokenizer.json's tokenizer, with what its last user left in it."""
    made, (begin, end) = KINDS[kind](), BEGIN_END.get(kind, ("<s>", "</s>"))
    special = [begin, end, "<|end|>"]
    made.add_special_tokens([AddedToken(each, special=True) for each in special])
    made.add_tokens([AddedToken("<added>", normalized=False)])
    if around in AROUND:
        ids = [(name, made.token_to_id(name)) for name in (begin, end)]
        single, pair = (each.format(begin, end) for each in AROUND[around])
        made.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    if baked in ("truncation", "both"):
        made.enable_truncation(3)
    if baked in ("padding", "both"):
        made.enable_padding(length=32, pad_id=0, pad_token=begin, direction="left")
    return made


def files(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell's JSON files by name."""
    kind, cell = cell["kind"], {**PLAIN, **cell}
    begin, end = BEGIN_END.get(kind, ("<s>", "</s>"))
    first, last = ("cls_token", "sep_token") if kind in BEGIN_END else ("bos_token", "eos_token")
    settings: dict[str, Any] = {"model_max_length": 512}
    if cell["tokenizer_class"]:
        settings["tokenizer_class"] = cell["tokenizer_class"]
    settings |= {name: cell[name] for name in SWITCHES if cell[name] is not None}
    if cell["bos_eos"]:
        settings["add_bos_token"], settings["add_eos_token"] = cell["bos_eos"]
    if cell["by_id"] != "none":
        settings["added_tokens_decoder"] = _by_id(kind, cell["by_id"])
    settings |= {
        "none": {},
        "texts": {first: begin, last: end},
        "objects": {first: _object(begin, rstrip=True), last: _object(end), "pad_token": begin},
        "new": {first: begin, last: "<new>", "pad_token": "<pad>", "image_token": "<image>"},
        "null": {first: begin, last: end, "pad_token": None},
    }[cell["named"]]
    settings |= {
        "none": {},
        "additional": {"additional_special_tokens": ["<new>", "<|end|>"]},
        "list": {"extra_special_tokens": ["<new>", _object("<two>", lstrip=True)]},
        "names": {"extra_special_tokens": {"image_token": "<new>", "boi": "hello"}},
        "models": {"model_specific_special_tokens": {"boi": "hello", "eoi": "<new>"}},
    }[cell["extra"]]
    beside: dict[str, Any] = {
        "none": {},
        "texts": {first: begin, last: "<|end|>"},
        "objects": {last: _flags(end, lstrip=True), "pad_token": "<two>"},
        "extra": {first: begin, last: end, "additional_special_tokens": ["<three>"]},
    }[cell["map"]]
    out = {"tokenizer_config.json": settings}
    out |= {"config.json": {"model_type": cell["model_type"]}} if cell["model_type"] else {}
    out |= {"special_tokens_map.json": beside} if beside else {}
    return out | ({"added_tokens.json": {"<four>": 2000, "<new>": 2001}} if cell["added"] else {})


def _object(content: str, **flags: bool) -> dict[str, Any]:
    return {"__type": "AddedToken", **_flags(content, **flags)}


def _flags(content: str, **flags: bool) -> dict[str, Any]:
    same = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    return {"content": content, **same, **flags}


def _by_id(kind: str, change: str) -> dict[str, Any]:
    state = build(kind, "none", "none").get_added_tokens_decoder()
    tokens = {
        str(number): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for number, token in sorted(state.items())
    }
    by_text = {token["content"]: token for token in tokens.values()}
    if change == "flags":
        by_text["<|end|>"] |= {"special": False, "lstrip": True}
        by_text["<added>"] |= {"special": True, "single_word": True, "rstrip": True}
    if change == "more":
        tokens["3000"] = {**by_text["<added>"], "content": "<new>", "normalized": True}
        tokens["3001"] = {**by_text["<|end|>"], "content": "hello", "special": False}
    return tokens


def write(cell: Mapping[str, Any], directory: Path) -> None:
    """Write a cell's files, tokenizer.json among them."""
    cell = {**PLAIN, **cell}
    made = build(cell["kind"], cell["around"], cell["baked"])
    made.save(str(directory / "tokenizer.json"))
    for name, value in files(cell).items():
        (directory / name).write_text(json.dumps(value), "utf-8")
