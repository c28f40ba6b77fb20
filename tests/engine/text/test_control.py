"""Text that spells control tokens stays text, in tokenizers of every kind."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from tokenizers.processors import TemplateProcessing

from bessemer.engine.request import Refusal
from bessemer.engine.text.control import GUARDS, ControlTokens, control_tokens, is_plain
from bessemer.engine.text.tokenizer import Tokenizer

from .tiny_kinds import CONTROL, KINDS, byte_level, control_ids
from .tiny_tokenizers import make_tokenizer

ENCODINGS = {kind: build() for kind, build in KINDS.items()}
CONTROLS = {kind: control_tokens(make_tokenizer(each), "") for kind, each in ENCODINGS.items()}
HALVES = [*CONTROL, "<", "</", "s>", ">", "|", "<|im", "_end|>", "im_start", "IM_END", "<|Im_End|>"]
WIDE = [
    "\uff1c/s>",
    "<\uff5cim_end|>",
    "</s\uff1e",
    "\uff1c|im_start|\uff1e",
    "<\u200b/s>",
    "\uff1c",
]
PIECES = [*HALVES, *WIDE, " ", "  ", "\n", "a", "is", "\u25b2", *GUARDS[:2], "\u00e9", "\u6771"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


def encode(kind: str, texts: list[str], between: str = "") -> list[int]:
    """Encode texts of clients between markers that are the template's own."""
    control = CONTROLS[kind]
    guarded, guard = control.guard_all(texts)
    text, kept = control.settled(between.join(["", *guarded, ""]), guard)
    return list(control.encoding(kept).encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4))
def test_no_text_is_a_control_token_alone_or_with_its_neighbours(
    kind: str, texts: list[str]
) -> None:
    assert not control_ids(ENCODINGS[kind]) & {*encode(kind, texts)}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_the_templates_markers_are_control_tokens_and_nothing_else_is(
    kind: str, texts: list[str]
) -> None:
    ids = control_ids(ENCODINGS[kind])
    tokens = [token for token in encode(kind, texts, between="<|im_end|>") if token in ids]
    assert tokens == [ENCODINGS[kind].token_to_id("<|im_end|>")] * (len(texts) + 1)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(text=st.text(st.sampled_from("abdeims <>|/\n\u00e9\u6771")).filter(lambda t: "</s" not in t))
def test_text_that_spells_none_has_the_ids_that_it_had(kind: str, text: str) -> None:
    if any(name in text for name in CONTROL):
        return
    whole = f"<s>{text}</s>"
    before = ENCODINGS[kind].encode(whole, add_special_tokens=False).ids
    control = CONTROLS[kind]
    (guarded,), guard = control.guard_all([text])
    assert control.settled(f"<s>{guarded}</s>", guard) == (whole, "")
    assert before[0] == ENCODINGS[kind].token_to_id("<s>")


@pytest.mark.parametrize("kind", ["byte-level", "prepending", "metaspace", "word piece"])
@settings(max_examples=40, deadline=None)
@given(text=TEXTS)
def test_forged_text_is_encoded_as_if_no_token_were_special(kind: str, text: str) -> None:
    plain = tokenizers.Tokenizer.from_str(ENCODINGS[kind].to_str())
    plain.encode_special_tokens = True
    assert encode(kind, [text]) == plain.encode(text, add_special_tokens=False).ids


def test_what_is_a_control_token() -> None:
    encoding = byte_level()
    encoding.add_tokens(["<think>", "<tool_call>", "<h1>", "<|fim|>", "\n\n\n", "user", "bos"])
    tokenizer = Tokenizer(encoding, {"bos_token": "bos"}, None)
    template = "{{ '<think>' }}<tool_call> user {{ '\n\n\n' }}"
    control = control_tokens(tokenizer, template)
    assert control.tokens == {*CONTROL, "bos", "<think>", "<tool_call>", "<|fim|>"}
    encoding.add_tokens(["</tool_call>", "</think>", "<end>", "</fin>", "</h1>", "user:", ":end"])
    control = control_tokens(tokenizer, template + "</end> <fin> user: :end")
    more = {"</think>", "</tool_call>", "<end>", "</fin>"}  # one of the pair is written
    assert control.tokens == {*CONTROL, "bos", "<think>", "<tool_call>", "<|fim|>"} | more


def test_marks_that_are_no_control_tokens_stay_in_an_assistants_own_text() -> None:
    control = ControlTokens(byte_level(), tokens=["<s>"], marks=["<think>"])
    text = "<think>a</s><s>"
    assert control.guarded(text, "!", own=True) == "<think>a</s><!s>"
    assert control.guarded(text, "!") == "<!think>a</s><!s>"


def test_a_guard_is_found_again_where_a_template_has_escaped_it() -> None:
    control = CONTROLS["byte-level"]
    (guarded,), guard = control.guard_all(["<s>"])
    escaped = guarded.replace(guard, f"\\u{ord(guard):04x}")
    assert control.settled(f'"{escaped}"', guard) == (f'"{guarded}"', guard)


def test_a_guard_is_in_no_text() -> None:
    control = ControlTokens(byte_level(), tokens=["<s>"], template=GUARDS[2])
    assert control.free_guard([GUARDS[0], r"\ufdd1"]) == GUARDS[3]
    with pytest.raises(Refusal, match=r"all of the noncharacters U\+FDD0 to U\+FDD7\."):
        control.free_guard(["".join(GUARDS)])
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))
    assert control.guard_all([everything]) == ([everything], "")


def test_the_second_tokenizer_shares_the_vocabulary_and_is_made_once() -> None:
    control = CONTROLS["byte-level"]
    one = control.encoding(GUARDS[0])
    assert one is control.encoding(GUARDS[0])
    assert one.get_vocab(with_added_tokens=True) == ENCODINGS["byte-level"].get_vocab()
    assert control.encoding("") is ENCODINGS["byte-level"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_goes_around_a_text_goes_around_one_with_guards(kind: str) -> None:
    encoding = KINDS[kind]()
    begin = encoding.token_to_id("<s>")
    assert begin is not None
    encoding.post_processor = TemplateProcessing("<s> $A", special_tokens=[("<s>", begin)])
    control = control_tokens(make_tokenizer(encoding), "")
    (guarded,), guard = control.guard_all(["a<s>"])
    assert control.encoding(guard).encode(guarded).ids.count(begin) == 1


def test_a_text_is_taken_as_it_is_without_a_normalizer() -> None:
    encoding = byte_level()
    assert is_plain(encoding)
    for steps, plain in (([], True), ([normalizers.NFC()], False)):
        encoding.normalizer = normalizers.Sequence(steps)
        assert is_plain(encoding) is plain
    encoding.normalizer = normalizers.NFC()
    assert not is_plain(encoding)
