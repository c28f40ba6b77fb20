"""The classes of transformers that take a file's vocabulary and bring all else themselves."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import tokenizers
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Model, Unigram, WordPiece
from tokenizers.processors import RobertaProcessing, TemplateProcessing

from .special_tokens import SpecialTokens, surround

Settings = Mapping[str, Any]
Named = Mapping[str, AddedToken]
Build = Callable[[tokenizers.Tokenizer, Settings], None]
Around = Callable[[tokenizers.Tokenizer, Named], None]
SPACE = "\u2581"
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN3_5 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class TokenizerClass:
    """A class: its kind of model, how it cuts texts, and the tokens that it names unasked.

    `around` sets what goes around a text; without it tokenizer.json says so, and settings that
    may have `defaults`. In the end `again` makes the special tokens what they are to be.
    """

    model: type[Model] = Model
    build: Build | None = None  # None: as tokenizer.json says
    tokens: Mapping[str, str | None] = field(default_factory=dict)
    around: Around | None = None
    defaults: Settings = field(default_factory=dict)
    extras: tuple[str, ...] = ()  # special tokens without a purpose
    again: Callable[[AddedToken], AddedToken] | None = None

    def rebuild(self, file: tokenizers.Tokenizer, settings: Settings) -> tokenizers.Tokenizer:
        """Return a tokenizer of the file's vocabulary, without added tokens; or the file's own."""
        if self.build is None:
            return file
        encoding = tokenizers.Tokenizer(file.model)
        if file.post_processor is not None:
            encoding.post_processor = file.post_processor
        if file.normalizer is not None:
            encoding.normalizer = file.normalizer
        if file.pre_tokenizer is not None:
            encoding.pre_tokenizer = file.pre_tokenizer
        self.build(encoding, settings)
        return encoding

    def finish(
        self, encoding: tokenizers.Tokenizer, tokens: SpecialTokens, settings: Settings
    ) -> None:
        """Set what goes around a text, now that all tokens are there."""
        if self.again is not None:
            special = *tokens.named.values(), *tokens.extra
            encoding.add_special_tokens([self.again(token) for token in special])
        if self.around is None:
            surround(encoding, tokens.named, {**self.defaults, **settings})
        else:
            self.around(encoding, tokens.named)


def find_class(
    config: Mapping[str, Any], settings: Settings, file: tokenizers.Tokenizer
) -> TokenizerClass:
    """Choose the class as AutoTokenizer does; most take tokenizer.json as it is."""
    found = CLASSES.get(_class_name(config, settings, _is_byte_level(file)), AS_IT_IS)
    return found if isinstance(file.model, found.model) else AS_IT_IS


def _class_name(config: Mapping[str, Any], settings: Settings, byte_level: bool) -> str:
    model_type = str(config.get("model_type"))
    registered = REGISTERED.get(model_type, "")
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if not isinstance(named, str):
        return registered
    named, distrusted = named.removesuffix("Fast"), model_type in MISNAMED
    if "auto_map" in settings:
        return named
    if named == "LlamaTokenizer" and byte_level and registered != MISTRAL and not distrusted:
        return PLAIN
    if registered in (PLAIN, MISTRAL):
        return PLAIN
    return registered if registered and distrusted else named


def _is_byte_level(file: tokenizers.Tokenizer) -> bool:
    parts = file.normalizer, file.pre_tokenizer, file.post_processor, file.decoder
    return any(b'"ByteLevel"' in part.__getstate__() for part in parts if part is not None)


def _byte_bpe(
    encoding: tokenizers.Tokenizer,
    settings: Settings,
    normalizer: normalizers.Normalizer | None = None,
    first: pre_tokenizers.PreTokenizer | None = None,
    words: bool = True,
) -> None:
    """Build a byte-level BPE; `words` are cut as GPT-2's, after what cuts `first`.

    Digits stay apart where the file says so (SmolLM 2, StarCoder 2): these models have learned it
    so, although transformers 5 forgets it.
    """
    first = first or _digits(encoding.pre_tokenizer)
    _set_bpe(encoding.model, None, fuse=False, fallback=False)
    space = bool(settings.get("add_prefix_space"))
    level = pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=words)
    encoding.normalizer = normalizer
    encoding.pre_tokenizer = level if first is None else pre_tokenizers.Sequence([first, level])
    encoding.decoder = decoders.ByteLevel()


def _digits(cut: pre_tokenizers.PreTokenizer | None) -> pre_tokenizers.PreTokenizer | None:
    """Return the split of digits among the steps by which a file cuts texts, if there is one."""
    state = {} if cut is None else msgspec.json.decode(cut.__getstate__())
    for step in state.get("pretokenizers", [state]):
        if step.get("type") == "Digits":
            return pre_tokenizers.Digits(individual_digits=step["individual_digits"])
    return None


def _llama(encoding: tokenizers.Tokenizer, settings: Settings, code: bool = False) -> None:
    spaced = settings.get("add_prefix_space")
    spaced = True if spaced is None else bool(spaced)
    always = bool(settings.get("legacy")) and not code
    _set_bpe(encoding.model, _text(settings, "unk_token", "<unk>") if code else None)
    encoding.normalizer = None
    scheme = ("always" if always else "first") if spaced else "never"
    encoding.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme, split=False)
    strip = [decoders.Strip(" ", 1, 0)] if spaced or code else []
    encoding.decoder = decoders.Sequence([*fallback(), *strip])


def _gemma(encoding: tokenizers.Tokenizer, settings: Settings) -> None:
    _set_bpe(encoding.model, _text(settings, "unk_token", "<unk>"))
    encoding.normalizer = normalizers.Replace(" ", SPACE)
    encoding.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    encoding.decoder = decoders.Sequence(fallback())


def _bert(encoding: tokenizers.Tokenizer, settings: Settings) -> None:
    encoding.model.unk_token = _text(settings, "unk_token", "[UNK]")
    encoding.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=settings.get("strip_accents"),
        lowercase=bool(settings.get("do_lower_case", True)),
    )
    encoding.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    encoding.decoder = decoders.WordPiece(prefix="##")


def _unigram(
    encoding: tokenizers.Tokenizer,
    settings: Settings,
    unk: int | None = None,
    spaced: bool | None = None,
) -> None:
    """Build a unigram; `unk` is the id of what is unknown, if its token does not say."""
    spaced = settings.get("add_prefix_space", True) if spaced is None else spaced
    scheme = "always" if spaced else "never"
    state = msgspec.json.decode(encoding.model.__getstate__())
    number = encoding.token_to_id(_text(settings, "unk_token", "<unk>")) if unk is None else unk
    if (state["unk_id"], state.get("byte_fallback", False)) != (number, False):
        encoding.model = Unigram([tuple(each) for each in state["vocab"]], number, False)
    encoding.normalizer = _precompiled(encoding.normalizer)
    metaspace = pre_tokenizers.Metaspace(SPACE, scheme)
    encoding.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    encoding.decoder = decoders.Metaspace(SPACE, scheme)


def _set_bpe(model: Any, unk: str | None, fuse: bool = True, fallback: bool = True) -> None:
    model.unk_token, model.fuse_unk, model.byte_fallback = unk, fuse, fallback
    model.dropout, model.ignore_merges = None, False


def fallback() -> list[decoders.Decoder]:
    """Return how SentencePiece's pieces become text, those that are single bytes too."""
    return [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]


def _precompiled(normalizer: normalizers.Normalizer | None) -> normalizers.Normalizer | None:
    """Return the rules of SentencePiece among a file's normalizers, if there are any."""
    if normalizer is None:
        return None
    state = msgspec.json.decode(normalizer.__getstate__())
    for each in state.get("normalizers", [state]):
        if rules := each.get("precompiled_charsmap"):
            return normalizers.Precompiled(base64.b64decode(rules))
    return None


def _text(settings: Settings, name: str, default: str) -> str:
    value = settings.get(name, default)
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else default


def _pieces(encoding: tokenizers.Tokenizer, named: Named, *names: str) -> list[tuple[str, int]]:
    """Return the texts and ids of tokens that are named and there."""
    texts = [named[name].content for name in names if name in named]
    ids = ((text, encoding.token_to_id(text)) for text in texts)
    return [(text, number) for text, number in ids if number is not None]


def _around(single: str, pair: str, *names: str) -> Around:
    """Return what sets a template in which {0}, {1} are the tokens of these names."""

    def around(encoding: tokenizers.Tokenizer, named: Named) -> None:
        pieces = _pieces(encoding, named, *names)
        if len(pieces) == len(names):
            texts, special = [text for text, _ in pieces], sorted(set(pieces))
            single_, pair_ = single.format(*texts), pair.format(*texts)
            encoding.post_processor = TemplateProcessing(single_, pair_, special)

    return around


def _roberta(encoding: tokenizers.Tokenizer, named: Named) -> None:
    pieces = _pieces(encoding, named, "sep_token", "cls_token")
    if len(pieces) == 2:
        sep, cls = pieces
        encoding.post_processor = RobertaProcessing(sep, cls)


def _tokens(**texts: str | None) -> dict[str, str | None]:
    return {f"{purpose}_token": text for purpose, text in texts.items()}


AS_IT_IS = TokenizerClass()
PLAIN, MISTRAL = "TokenizersBackend", "MistralCommonBackend"
END = "<|endoftext|>"
LLAMA = _tokens(unk="<unk>", bos="<s>", eos="</s>")
ROBERTA = _tokens(bos="<s>", eos="</s>", sep="</s>", cls="<s>", unk="<unk>", pad="<pad>")
MASKED = {**ROBERTA, **_tokens(mask="<mask>")}
BERT = TokenizerClass(
    WordPiece,
    _bert,
    _tokens(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]"),
    _around("{0}:0 $A:0 {1}:0", "{0}:0 $A:0 {1}:0 $B:1 {1}:1", "cls_token", "sep_token"),
)
SEPARATED = _around("{0} $A {1}", "{0} $A {1} {1} $B {1}", "bos_token", "eos_token")
NFC = normalizers.NFC()
GPT2 = TokenizerClass(BPE, _byte_bpe, _tokens(unk=END, bos=END, eos=END, pad=None))
CLASSES = {
    "BertTokenizer": BERT,
    "BartTokenizer": TokenizerClass(BPE, _byte_bpe, MASKED, _roberta),
    "CamembertTokenizer": TokenizerClass(
        Unigram,
        _unigram,
        MASKED,
        SEPARATED,
        extras=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    ),
    "CodeGenTokenizer": GPT2,
    "CodeLlamaTokenizer": TokenizerClass(
        BPE,
        partial(_llama, code=True),
        LLAMA
        | _tokens(
            prefix="▁<PRE>", middle="▁<MID>", suffix="▁<SUF>", eot="▁<EOT>", fill="<FILL_ME>"
        ),
        defaults={"add_bos_token": True, "add_eos_token": False},
    ),
    "CohereTokenizer": TokenizerClass(
        BPE,
        partial(_byte_bpe, normalizer=NFC, first=pre_tokenizers.Digits(individual_digits=True)),
        _tokens(
            bos="<BOS_TOKEN>",
            eos="<|END_OF_TURN_TOKEN|>",
            unk="<UNK>",
            pad="<PAD>",
            cls="<CLS>",
            sep="<SEP>",
            mask="<MASK_TOKEN>",
        ),
        again=lambda token: token,
    ),
    "DistilBertTokenizer": BERT,
    "ElectraTokenizer": BERT,
    "GPT2Tokenizer": GPT2,
    "GPTNeoXTokenizer": TokenizerClass(
        BPE,
        partial(_byte_bpe, normalizer=NFC),
        _tokens(unk=END, bos=END, eos=END, pad="<|padding|>"),
        defaults={"add_bos_token": False, "add_eos_token": False},
    ),
    "GemmaTokenizer": TokenizerClass(
        BPE,
        _gemma,
        _tokens(unk="<unk>", bos="<bos>", eos="<eos>", pad="<pad>", mask="<mask>"),
    ),
    "LlamaTokenizer": TokenizerClass(BPE, _llama, LLAMA),
    "MPNetTokenizer": TokenizerClass(WordPiece, _bert, MASKED | _tokens(unk="[UNK]"), _roberta),
    "MobileBertTokenizer": BERT,
    "Qwen2Tokenizer": TokenizerClass(
        BPE,
        partial(
            _byte_bpe,
            normalizer=NFC,
            first=pre_tokenizers.Split(Regex(QWEN2), "isolated"),
            words=False,
        ),
        _tokens(unk=END, eos=END, pad=END),
        again=lambda token: AddedToken(token.content, special=True),
    ),
    "Qwen3_5Tokenizer": TokenizerClass(
        BPE,
        partial(
            _byte_bpe,
            normalizer=NFC,
            first=pre_tokenizers.Split(Regex(QWEN3_5), "isolated"),
            words=False,
        ),
        _tokens(unk=END, eos=END, pad=END),
    ),
    "RobertaTokenizer": TokenizerClass(BPE, _byte_bpe, MASKED, _roberta),
    "T5Tokenizer": TokenizerClass(
        Unigram,
        partial(_unigram, unk=2, spaced=True),
        _tokens(eos="</s>", unk="<unk>", pad="<pad>"),
        _around("$A {0}", "$A {0} $B {0}", "eos_token"),
        extras=tuple(f"<extra_id_{number}>" for number in range(100)),
    ),
    "XLMRobertaTokenizer": TokenizerClass(Unigram, partial(_unigram, unk=3), MASKED, SEPARATED),
}
# The classes of model types in transformers' own table; a type that is not there has none.
REGISTERED = {
    **dict.fromkeys(("bert", "distilbert", "nomic_bert"), "BertTokenizer"),
    "camembert": "CamembertTokenizer",
    **dict.fromkeys(("cohere", "cohere2"), "CohereTokenizer"),
    **dict.fromkeys(
        ("gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text"), "GemmaTokenizer"
    ),
    **dict.fromkeys(("phi", "starcoder2"), "GPT2Tokenizer"),
    **dict.fromkeys(("glm4", "glm4_moe", "glm4_moe_lite", "minimax_m2", "modernbert"), PLAIN),
    **dict.fromkeys(("granite", "granitemoe", "granitemoehybrid", "olmo2", "olmo3"), PLAIN),
    **dict.fromkeys(("phi3", "phimoe"), PLAIN),
    **dict.fromkeys(("gte", "xlm-roberta"), "XLMRobertaTokenizer"),
    "mamba2": "GPTNeoXTokenizer",
    **dict.fromkeys(("ministral", "ministral3", "mistral", "mistral3", "mixtral"), MISTRAL),
    "mpnet": "MPNetTokenizer",
    **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"), "Qwen2Tokenizer"),
    **dict.fromkeys(
        ("qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text"), "Qwen3_5Tokenizer"
    ),
    "roberta": "RobertaTokenizer",
}
# Model types whose checkpoints are known to name a wrong class.
MISNAMED = frozenset(
    ("minimax_m2", "modernbert", "phi3", "phimoe", "qwen2", "qwen3_5", "qwen3_5_moe")
) | {"qwen3_5_moe_text"}
