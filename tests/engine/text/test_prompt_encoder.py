"""Only what is new in a conversation is encoded, and its tokens are those of the whole text."""

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing

from bessemer.engine.text.control import ControlTokens, control_tokens
from bessemer.engine.text.prompt_encoder import EncodedPrompt, PromptEncoder, divider_names
from bessemer.engine.text.tokenizer import Tokenizer

from .tiny_kinds import CONTROL, KINDS, byte_level
from .tiny_tokenizers import make_tokenizer

TOKENIZERS = {kind: make_tokenizer(build()) for kind, build in KINDS.items()}
CONTROLS = {kind: control_tokens(each, "") for kind, each in TOKENIZERS.items()}
PIECES = [
    *CONTROL,
    "<",
    "</",
    "|>",
    " ",
    "\n",
    "a",
    "is",
    "\u25b2",
    "\uff1c/s>",
    "\ufdd0",
    "\u6771",
]
SAID = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)
TURNS = st.lists(st.tuples(st.booleans(), SAID), min_size=1, max_size=8)  # one more, or another


@dataclass(frozen=True)
class Counting(Tokenizer):
    """A tokenizer that notes what it encodes."""

    seen: list[str] = field(default_factory=list)

    def encode_parts(
        self, texts: Sequence[str], special: bool = True, most: int = sys.maxsize
    ) -> list[list[int]]:
        self.seen.append("".join(texts))
        return super().encode_parts(texts, special, most)


def counting(names: Sequence[str] = CONTROL) -> tuple[Counting, PromptEncoder]:
    tokenizer = Counting(byte_level(), {}, None)
    return tokenizer, PromptEncoder(tokenizer, ControlTokens(tokenizer.encoding, names))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(turns=TURNS)
def test_tokens_are_those_of_the_whole_text(kind: str, turns: list[tuple[bool, str]]) -> None:
    tokenizer, control = TOKENIZERS[kind], CONTROLS[kind]
    encoder, said = PromptEncoder(tokenizer, control), list[str]()
    for more, text in turns:
        said = [*said, text] if more else [*said[:-1], text]
        guarded, guard = control.guard_all(said)
        prompt = "".join(f"<|im_start|>{each}<|im_end|>\n" for each in guarded)
        prompt, kept = control.settled(f"{prompt}<|im_start|>", guard)
        whole = control.encoding(kept).encode(prompt, add_special_tokens=False).ids
        assert encoder.continued(prompt, kept) == whole
        assert encoder.encode(prompt, kept, special=False) == whole


def test_what_a_tokenizer_puts_before_a_text_is_not_put_before_its_parts() -> None:
    encoding = byte_level()
    begin = encoding.get_vocab(with_added_tokens=True)[CONTROL[0]]
    encoding.post_processor = TemplateProcessing(
        single=f"{CONTROL[0]} $A", special_tokens=[(CONTROL[0], begin)]
    )
    tokenizer = make_tokenizer(encoding)
    assert tokenizer.encode("a", special=True)[0] == begin
    encoder = PromptEncoder(tokenizer, ControlTokens(encoding, CONTROL))
    text = f"a{CONTROL[1]}is{CONTROL[1]}a"
    assert encoder.continued(text) == tokenizer.encode(text, special=False)
    assert begin not in encoder.continued(text)


def test_only_what_is_new_is_encoded() -> None:
    tokenizer, encoder = counting()
    encoder.continued("<s>first<|im_end|><s>")
    encoder.continued("<s>first<|im_end|><s>second<|im_end|><s>")
    encoder.continued("<s>first<|im_end|><s>third")
    encoder.continued("<s>other")
    assert tokenizer.seen[1:] == ["<s>second<|im_end|><s>", "<s>third", "<s>other"]


def test_one_client_does_not_learn_what_another_has_sent() -> None:
    tokenizer, encoder = counting()
    for client in ("one", "other", "one"):
        encoder.continued("<s>first<|im_end|><s>", client=client)
    assert tokenizer.seen == [*["<s>first<|im_end|><s>"] * 2, "<s>"]


def test_a_character_of_a_text_is_no_guard_of_another() -> None:
    _, encoder = counting()
    text = "<s>a\ufdd0b<|im_end|>"
    plain = encoder.continued(text)
    assert encoder.continued(text, "\ufdd0") != plain
    assert encoder.continued(text) == plain


@pytest.mark.parametrize(
    ("text", "guard", "shared"),
    [("abcd", "", 4), ("abcx", "", 3), ("abcd", "c", 2), ("abcd", "a", 0), ("abcx", "x", 3)],
)
def test_texts_of_different_guards_share_what_has_neither(
    text: str, guard: str, shared: int
) -> None:
    numbers = array("I")
    for one, other in ("", guard), (guard, ""):
        before = EncodedPrompt("", "abcd", one, *[numbers] * 4)
        assert before.shared(text, other) == shared


def test_a_text_with_a_divider_that_is_a_word_is_not_divided() -> None:
    tokenizer = TOKENIZERS["unigram"]
    encoder = PromptEncoder(tokenizer, CONTROLS["unigram"])
    for end in ("d", "e"):
        text = f"<s>a \uff1c/s> b</s>c</s>{end}"
        assert encoder.continued(text) == tokenizer.encode(text, special=False)


def test_what_is_remembered_is_bounded_in_number_and_in_bytes() -> None:
    def remembered(encoder: PromptEncoder, tokenizer: Counting, number: int) -> bool:
        encoder.continued(f"<s>{number}<|im_end|>")
        return tokenizer.seen[-1] == "<|im_end|>"

    tokenizer = Counting(byte_level(), {}, None)
    control = control_tokens(tokenizer, "")
    for bounds in ((2, 2**20), (64, 1200)):
        encoder = PromptEncoder(tokenizer, control, *bounds)
        for number in range(5):
            encoder.continued(f"<s>{number}<|im_end|>")
        assert remembered(encoder, tokenizer, 4)
        assert not remembered(encoder, tokenizer, 0)
    encoder = PromptEncoder(tokenizer, control, 64, 100)
    assert encoder.continued("<s>1") == encoder.continued("<s>1")


def test_what_a_prompt_goes_on_from_takes_no_place_of_anothers() -> None:
    tokenizer = Counting(byte_level(), {}, None)
    encoder = PromptEncoder(tokenizer, control_tokens(tokenizer, ""), 2)
    for text in ("<s>other<|im_end|>", "<s>a<|im_end|>", "<s>a<|im_end|><s>b<|im_end|>"):
        encoder.continued(text)
    encoder.continued("<s>other<|im_end|><s>")
    assert tokenizer.seen[-1] == "<|im_end|><s>"


def test_texts_are_divided_before_tokens_that_nothing_overlaps() -> None:
    encoding = byte_level()
    tokens = [
        AddedToken("<left>", lstrip=True),
        AddedToken("<word>", single_word=True),
        AddedToken("word<", normalized=False),  # its end begins others
        AddedToken("[<s>]", normalized=False),
        AddedToken("<s>more", normalized=False),
    ]
    assert divider_names(byte_level()) == {*CONTROL}
    encoding.add_tokens(tokens[:2])
    assert divider_names(encoding) == {*CONTROL}
    for token, others in ((tokens[3], {"[<s>]"}), (tokens[4], {"<s>more"})):
        overlapping = byte_level()
        overlapping.add_tokens([token])
        assert divider_names(overlapping) == {*CONTROL, *others} - {"<s>"}
    encoding.add_tokens(tokens[2:3])
    assert not divider_names(encoding)
    assert not divider_names(KINDS["late"]())
    encoding = byte_level()
    encoding.enable_truncation(5)
    assert not divider_names(encoding)


def test_without_dividers_texts_are_encoded_whole() -> None:
    tokenizer, encoder = counting(names=())
    assert encoder.continued("a") == encoder.continued("a")
    assert tokenizer.seen == ["a", "a"]
