"""The tokenizer that a GGUF file describes: its vocabulary, and how texts are cut before it.

What is cut before a byte-level BPE is only named in the file (`tokenizer.ggml.pre`). The names are
those of llama.cpp (src/llama-vocab.cpp); the patterns are those of the models' own tokenizer.json.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordPiece

from ..checkpoint.weight_files import CheckpointError
from ..text.tokenizer_classes import QWEN2, QWEN3_5, SPACE, fallback
from .container import Gguf, opened

FIELD = "tokenizer.ggml."
LOWER = f"{FIELD}normalizer.lowercase"
LEAF = 1 << 31  # the bit of a trie's units that are ends
PURPOSES = {
    "bos": "bos",
    "eos": "eos",
    "unknown": "unk",
    "padding": "pad",
    "seperator": "sep",
    "separator": "sep",
    "cls": "cls",
    "mask": "mask",
}
# Ends of answers that files do not always name as such, by what they are called: llama.cpp's, but
# for </s>, which many vocabularies have without using it.
ENDS = frozenset(
    (
        *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>"),
        *("<|calls|>", "<|flush|>", "<end_of_turn>", "<turn|>", "<|tool_response>", "<eos>"),
        *("<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "[e~["),
        *("<end_of_utterance>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    )
)
INNER, LAST = "<|end|>", {"<|return|>", "<|flush|>"}  # with the last, the first ends no answer


class Kind(IntEnum):
    """The types of tokens."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Pre:
    """What cuts a text before byte-level merges: patterns, one within the parts of the other.

    `whole`: a part that is a token stays whole, whatever the merges say.
    """

    patterns: tuple[str, ...]
    whole: bool = False
    bos: bool = False  # a text begins with it unless the file says otherwise


ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
)  # fmt: skip
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE, _SIGNS = r"[^\r\n\p{L}\p{N}]?", r" ?[^\s\p{L}\p{N}]+[\r\n/]*|"
TEKKEN = (
    rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}|" + _SIGNS + SPACES
)  # fmt: skip
GPT4O = (
    rf"{_BEFORE}{_UPPER}*{_LOWER}+{ENGLISH}?|{_BEFORE}{_UPPER}+{_LOWER}*{ENGLISH}?|\p{{N}}{{1,3}}|"
    + _SIGNS
    + SPACES
)
DIGIT, THREE_DIGITS = r"\p{N}", r"\p{N}{1,3}"
DEEPSEEK = (
    THREE_DIGITS,
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|" + SPACES,
)
# Letters that are upper or lower case, as DeepSeek's first tokenizer lists them.
CASED = (
    "A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370"
    "-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-"
    "\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18"
    "-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-"
    "\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-"
    "\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124"
    "\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183"
    "\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b"
    "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21"
    "-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb"
    "\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{CASED}]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    CJK,
    r"\p{N}+",
)
DEEPSEEK_CODER = r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, DIGIT
SEED = (
    ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + SPACES
)  # fmt: skip
# Kimi's words are in Han or in other letters.
_OTHER_UPPER, _OTHER_LOWER = (rf"[{letters}&&[^\p{{Han}}]]" for letters in (_UPPER, _LOWER))
KIMI = (
    rf"\p{{Han}}+|{_BEFORE}{_OTHER_UPPER}*{_OTHER_LOWER}+{ENGLISH}?|"
    rf"{_BEFORE}{_OTHER_UPPER}+{_OTHER_LOWER}*{ENGLISH}?|\p{{N}}{{1,3}}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
)
YOUTU = (
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c"
    "\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    GPT4O.replace(THREE_DIGITS, DIGIT),
)
BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
# What llama.cpp does with texts of files that do not say how they are cut.
DEFAULT = r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"
# What files of an architecture mean that are older than names for it.
UNNAMED = {
    "qwen2": "qwen2",
    "qwen2moe": "qwen2",
    "starcoder2": "starcoder",
    "command-r": "command-r",
    "phi2": "phi-2",
}
PRE: Mapping[str, Pre] = {
    "default": Pre(DEFAULT),
    **dict.fromkeys(
        (
            *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2"),
            *("midm-2.0", "jina-v5-nano"),
        ),
        Pre((LLAMA3,), whole=True, bos=True),
    ),
    **dict.fromkeys(("glm4", "glm5"), Pre((LLAMA3,), whole=True)),
    **dict.fromkeys(("chatglm-bpe", "dbrx", "smaug-bpe"), Pre((LLAMA3,))),
    **dict.fromkeys(
        (
            *("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "grok-2"),
            *("kormo", "f2llmv2", "solar-open"),
        ),
        Pre((QWEN2,)),
    ),
    "qwen35": Pre((QWEN3_5,)),
    **dict.fromkeys(("gpt-4o", "llama4", "minimax-m2", "kanana2", "talkie"), Pre((GPT4O,))),
    "tekken": Pre((TEKKEN,), whole=True, bos=True),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm"), Pre(DEEPSEEK)),
    "kimi-k2": Pre((KIMI,)),
    "youtu": Pre(YOUTU, whole=True),
    **dict.fromkeys(("tiny_aya", "cohere2moe"), Pre((r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O))),
    "superbpe": Pre((r"\p{N}+", r"(?=(\d{3})+(?!\d))")),
    "minicpm5": Pre((THREE_DIGITS, LLAMA3.replace(THREE_DIGITS, r"\p{N}+")), whole=True),
    "viking": Pre((BLOOM, DIGIT)),
    "deepseek-llm": Pre(DEEPSEEK_LLM),
    "deepseek-coder": Pre(DEEPSEEK_CODER),
    "seed-coder": Pre((SEED,)),
    **dict.fromkeys(
        (
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ),
        Pre((DIGIT, GPT2)),
    ),
    **dict.fromkeys(
        (
            *("gpt-2", "phi-2", "mpt", "olmo", "exaone4", "trillion", "granite-docling"),
            *("modern-bert", "gigachat", "a.x-4.0", "mellum", "jina-es", "jina-de", "jina-v2-es"),
            *("jina-v2-de", "jina-v1-en", "jina-v2-code", "roberta-bpe"),
        ),
        Pre((GPT2,)),
    ),
}


def gguf_tokenizer(path: Path) -> Tokenizer:
    """Return a file's tokenizer. Raises CheckpointError."""
    return build_tokenizer(opened(path))


def build_tokenizer(gguf: Gguf) -> Tokenizer:
    """Return the tokenizer of a file's vocabulary. Raises CheckpointError."""
    model = gguf.said(f"{FIELD}model")
    if model not in MODELS:
        raise CheckpointError(
            f"{gguf.path} has a tokenizer of the kind {model!r}, and {', '.join(MODELS)} are read; "
            "give the directory of the model that the file was made from"
        )
    texts, said = _vocabulary(gguf)
    tokens = [*texts]
    kinds = [
        Kind.CONTROL if token in ENDS and kind in (Kind.NORMAL, Kind.USER_DEFINED) else kind
        for token, kind in zip(tokens, said, strict=True)  # some files have ends of other types
    ]
    encoding: Tokenizer = MODELS[model](gguf, tokens, kinds)
    added = [
        AddedToken(token, normalized=False, special=kind == Kind.CONTROL)
        for token, kind in zip(tokens, kinds, strict=True)
        if kind in (Kind.CONTROL, Kind.USER_DEFINED) or (kind == Kind.UNKNOWN and model != "gpt2")
    ]
    encoding.add_tokens(added)
    return encoding


def tokenizer_config(gguf: Gguf) -> dict[str, Any]:
    """Return what tokenizer_config.json would say. Raises CheckpointError."""
    tokens, kinds = _vocabulary(gguf)
    pre = PRE.get(str(gguf.said(f"{FIELD}pre")), Pre(()))
    model = gguf.said(f"{FIELD}model")
    settings: dict[str, Any] = {
        "add_bos_token": gguf.said(
            f"{FIELD}add_bos_token", model in ("llama", "gemma4") or pre.bos
        ),
        "add_eos_token": gguf.said(f"{FIELD}add_eos_token", model == "t5"),
    }
    if model == "bert":
        settings["do_lower_case"] = _in_lower_case(gguf, tokens, kinds)
    for purpose, name in PURPOSES.items():
        token = gguf.said(f"{FIELD}{purpose}_token_id")
        if token is not None and 0 <= token < len(tokens):
            settings[f"{name}_token"] = tokens[token]
    if templates := _templates(gguf):
        settings["chat_template"] = templates
    return settings


def end_tokens(gguf: Gguf) -> list[int]:
    """Return the ids that end an answer: the file's, and others by their names."""
    tokens, _ = _vocabulary(gguf)
    named = (gguf.said(f"{FIELD}{purpose}_token_id") for purpose in ("eos", "eot", "eom"))
    ends = [token for token in named if token is not None and token >= 0]
    known = {token: number for number, token in enumerate(tokens) if token in ENDS}
    inner = known.get(INNER) if LAST & known.keys() else None
    return [end for end in dict.fromkeys([*ends, *known.values()]) if end != inner]


def _templates(gguf: Gguf) -> str | list[dict[str, str]] | None:
    name = "tokenizer.chat_template"
    named = {
        each: gguf.said(f"{name}.{each}") for each in gguf.said("tokenizer.chat_templates", ())
    }
    others = {each: source for each, source in named.items() if source is not None}
    default: str | None = gguf.said(name)
    if not others:
        return default
    every = ({"default": default} if default else {}) | others
    return [{"name": each, "template": source} for each, source in every.items()]


def _vocabulary(gguf: Gguf) -> tuple[Sequence[str], list[int]]:
    """Return all tokens and their types. Raises CheckpointError."""
    tokens: Sequence[str] = gguf.said(f"{FIELD}tokens") or []
    if not tokens:
        raise CheckpointError(
            f"{gguf.path} has no vocabulary; give the directory of the model that it was made from"
        )
    kinds: list[int] = gguf.said(f"{FIELD}token_type") or [int(Kind.NORMAL)] * len(tokens)
    if len(kinds) != len(tokens):
        raise CheckpointError(
            f"{gguf.path} has {len(tokens)} tokens, and types of {len(kinds)}; fetch it again"
        )
    spelled = SPELLED.get(str(gguf.said(f"{FIELD}model")))
    if spelled:
        tokens = [spelled(*each) for each in zip(tokens, kinds, strict=True)]
    return tokens, kinds


def _word_piece(token: str, kind: int) -> str:
    """Return a piece as BERT spells it: files mark where words begin, and it where they go on."""
    if kind == Kind.CONTROL:
        return token
    return token[1:] if token.startswith(SPACE) else f"##{token}"


def _in_lower_case(gguf: Gguf, tokens: Sequence[str], kinds: Sequence[int]) -> bool:
    """Return what a file says of capitals, or whether its vocabulary has none."""
    said: bool | None = gguf.said(LOWER)
    words = (token for token, kind in zip(tokens, kinds, strict=True) if kind == Kind.NORMAL)
    none = not any(word.isalpha() and word != word.lower() for word in words)
    return none if said is None else said


def _ids(tokens: Sequence[str], kinds: Sequence[int]) -> dict[str, int]:
    """Return tokens' ids; those that only fill the vocabulary up are left out."""
    return {
        token: number
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind != Kind.UNUSED
    }


def _byte_level(gguf: Gguf, tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    """Build GPT-2's kind: merges of bytes within the parts of a text."""
    name = gguf.said(f"{FIELD}pre", UNNAMED.get(gguf.architecture, "default"))
    if name not in PRE:
        raise CheckpointError(
            f"{gguf.path} cuts texts in a way that is not known here, {name!r}; give the directory "
            "of the model that it was made from"
        )
    pre, ids = PRE[name], _ids(tokens, kinds)
    merges = [_pair(merge) for merge in gguf.said(f"{FIELD}merges", ())]
    encoding = Tokenizer(BPE(ids, merges, ignore_merges=pre.whole))
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in pre.patterns]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoding.pre_tokenizer = pre_tokenizers.Sequence([*splits, level])
    encoding.decoder = decoders.ByteLevel()
    return encoding


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ") if not merge.startswith(" ") else (" ", "", merge[2:])
    return left, right


def _sentencepiece(gguf: Gguf, tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    """Build SentencePiece's kind, of bytes where a piece is unknown.

    The best piece is merged first, by the scores, or by the merges of Gemma 4's files.
    """
    merged, ids = gguf.said(f"{FIELD}merges"), _ids(tokens, kinds)
    merges = [*map(_pair, merged)] if merged else _merges(ids, _scores(gguf, tokens))
    unknown = _token(gguf, tokens, gguf.said(f"{FIELD}unknown_token_id", 0))
    encoding = Tokenizer(BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    spaced = gguf.said(f"{FIELD}add_space_prefix", not merged)
    replace = normalizers.Replace(" ", SPACE)
    before = [normalizers.Prepend(SPACE)] if spaced else []
    encoding.normalizer = normalizers.Sequence([*before, replace])
    strip = [decoders.Strip(" ", 1, 0)] if spaced else []
    encoding.decoder = decoders.Sequence([*fallback(), *strip])
    return encoding


def _merges(ids: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Return the merges that give the same pieces as scores do: of the best piece first."""
    merges: list[tuple[float, int, int, tuple[str, str]]] = []
    for piece, number in ids.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                merges.append((-scores[number], ids[left], ids[right], (left, right)))
    merges.sort()
    return [pair for *_, pair in merges]


def _wordpiece(gguf: Gguf, tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    """Build BERT's kind: of a word, the longest piece that there is, and so on."""
    unknown = gguf.said(f"{FIELD}unknown_token_id", 100)
    encoding = Tokenizer(WordPiece(_ids(tokens, kinds), unk_token=_token(gguf, tokens, unknown)))
    lower = _in_lower_case(gguf, tokens, kinds)
    accents: bool | None = gguf.said(f"{FIELD}normalizer.strip_accents")
    encoding.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=accents)
    encoding.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    encoding.decoder = decoders.WordPiece()
    return encoding


def _unigram(gguf: Gguf, tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    """Build T5's kind, also XLM-RoBERTa's: the likeliest pieces of a word, by their scores."""
    pieces = [*zip(tokens, _scores(gguf, tokens), strict=True)]
    unknown = gguf.said(f"{FIELD}unknown_token_id", 2)
    _token(gguf, tokens, unknown)
    encoding = Tokenizer(Unigram(pieces, unknown, Kind.BYTE in kinds))
    if rules := gguf.said(f"{FIELD}precompiled_charsmap"):
        encoding.normalizer = _normalizer(gguf, bytes(int(each) & 255 for each in rules))
    spaced = gguf.said(f"{FIELD}add_space_prefix", True)
    metaspace = pre_tokenizers.Metaspace(SPACE, "always" if spaced else "never")
    encoding.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    encoding.decoder = decoders.Metaspace(SPACE, "always" if spaced else "never")
    return encoding


def _normalizer(gguf: Gguf, rules: bytes) -> normalizers.Normalizer:
    """Return SentencePiece's rules: a trie in an array (Darts), and the texts that it leads to.

    Raises CheckpointError where it leads out of either, for the library would panic there.
    """
    count = int.from_bytes(rules[:4], "little") // 4
    units = [unit for (unit,) in struct.iter_unpack("<I", rules[4 : 4 * (len(rules) // 4)])][:count]
    texts = rules[4 + 4 * count :]
    ends = [unit & LEAF - 1 for unit in units if unit & LEAF]
    steps = (at ^ unit >> 10 << (unit >> 6 & 8) for at, unit in enumerate(units) if not unit & LEAF)
    whole = len(units) == count > 0 and max(ends, default=0) < len(texts) and texts[-1] == 0
    if not whole or any(step | 255 >= count for step in steps):
        raise CheckpointError(
            f"{gguf.path} has rules for characters that lead nowhere; fetch it again"
        )
    return normalizers.Precompiled(rules)


def _scores(gguf: Gguf, tokens: Sequence[str]) -> list[float]:
    scores: list[float] = gguf.said(f"{FIELD}scores", [])
    if len(scores) != len(tokens):
        raise CheckpointError(f"{gguf.path} has no score for each token; fetch it again")
    return scores


def _token(gguf: Gguf, tokens: Sequence[str], number: int) -> str:
    """Return the token of an id. Raises CheckpointError if there is none."""
    if not 0 <= number < len(tokens):
        raise CheckpointError(
            f"{gguf.path} has {len(tokens)} tokens, and none of the id {number!r} that it names; "
            "fetch it again"
        )
    return tokens[number]


SPELLED = {"bert": _word_piece}
MODELS = {
    "gpt2": _byte_level,
    "llama": _sentencepiece,
    "gemma4": _sentencepiece,
    "bert": _wordpiece,
    "t5": _unigram,
}
