"""A vocabulary of single bytes and a few special tokens: whether a grammar lets a text through."""

import re
from collections.abc import Iterable
from functools import cache

import llguidance

NAMES = (
    *("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|return|>"),
    *("<|call|>", "[THINK]", "[/THINK]", "[TOOL_CALLS]", "<|channel>", "<channel|>"),
)
SPECIALS = {name: 256 + at for at, name in enumerate(NAMES)}


class Bytes:
    """What llguidance asks of a tokenizer."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    eos_token_id = 256 + len(NAMES)
    tokens = (*(bytes([byte]) for byte in range(256)), *(n.encode() for n in NAMES), b"end")
    special_token_ids = (*SPECIALS.values(), eos_token_id)

    def __call__(self, text: str) -> list[int]:
        return [*text.encode()]


def ids(text: str) -> Iterable[int]:
    names = "|".join(map(re.escape, NAMES))
    for part in re.split(f"({names})", text):
        yield from [SPECIALS[part]] if part in SPECIALS else part.encode()


@cache
def vocabulary() -> llguidance.LLTokenizer:
    return llguidance.LLTokenizer(Bytes())  # type: ignore[arg-type]


def accepts(grammar: str, text: str) -> bool:
    """Return whether a grammar lets a whole text through, byte by byte. Fails for no grammar."""
    matcher = llguidance.LLMatcher(vocabulary(), grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = [*ids(text)]
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()
