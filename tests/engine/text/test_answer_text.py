"""The worker's reading of an answer: where it stops."""

import pytest

from bessemer.engine.request import Channels, Request, Thought
from bessemer.engine.text.answer_text import ChannelSplitter, ThoughtSplitter, make_splitter

from .tiny_tokenizers import byte_level, id_of, make_tokenizer, sentencepiece

THINK = Thought("<think>", "</think>")


def stopped(answer: str, *stop: str, **fields: object) -> str | None:
    """Read an answer a character at a time; the special token <|end|> is written as it is."""
    tokenizer = make_tokenizer(byte_level())
    end = id_of(tokenizer, "<|end|>")
    request = Request(id=1, tokens=[1], max_tokens=9, stop=list(stop), **fields)  # type: ignore[arg-type]
    text = tokenizer.answer_text(request)
    tokens = [t for part in answer.split("<|end|>") for c in part for t in tokenizer.encode(c)]
    at = len([t for c in answer.split("<|end|>")[0] for t in tokenizer.encode(c)])
    tokens[at:at] = [end] * ("<|end|>" in answer)
    for token in tokens:
        text.add(token)
        if text.stop is not None:
            return text.stop
    return None


@pytest.mark.parametrize(
    ("answer", "stop", "fields", "oracle"),
    [
        ("a STOP", "STOP", {}, "STOP"),
        ("a STOP", "STOP", {"min_tokens": 7}, None),
        ("STOP", "P", {"min_tokens": 4}, "P"),
        ("STOP", "P", {"min_tokens": 5}, None),
        ("<think>STOP</think>a", "STOP", {"thought": THINK}, None),
        ("<think>a</think>STOP", "STOP", {"thought": THINK}, "STOP"),
        ("<think>STOP", "STOP", {"thought": THINK, "stop_in_reasoning": True}, "STOP"),
        ("<think>a</think>", "</think>", {"thought": THINK, "stop_in_reasoning": True}, "</think>"),
        ("<think>a</think>", "</think>", {"thought": THINK}, None),
        ("Hi<|end|>", "<|end|>", {}, "<|end|>"),
        ("Hi<|end|>there", "Hithere", {}, "Hithere"),
        ("<think>a<|end|></think>b", "<|end|>", {"thought": THINK}, None),
        ("Hi<|end|>", "Hi<|end|>", {"skip_special_tokens": False}, "Hi<|end|>"),
        ("Hi<|end|>", "nd|>", {"skip_special_tokens": False}, "nd|>"),
        ("Hi<|end|>", "nd|>", {}, None),
    ],
)
def test_where_it_stops(
    answer: str, stop: str, fields: dict[str, object], oracle: str | None
) -> None:
    assert stopped(answer, stop, **fields) == oracle


@pytest.mark.parametrize(
    ("answer", "stop", "thought", "oracle"),
    [
        ("a STO", "STOP", None, ("", "a STO", None)),
        ("a STOP", "STOP", None, ("", "a ", "STOP")),
        ("<think>ab", "STOP", THINK, ("ab", "", None)),
        ("<think>a</thi", "STOP", THINK, ("a</thi", "", None)),
        ("<think>a</think>b ST", "STOP", THINK, ("a", "b ST", None)),
        ("<thi", "STOP", THINK, ("", "<thi", None)),
        ("x<thi", "hi", THINK, ("", "x<t", "hi")),
        ("<thi", "hi", THINK, ("", "<t", "hi")),  # sought in what was held back too
    ],
)
def test_what_was_held_back_comes_at_the_end(
    answer: str, stop: str, thought: Thought | None, oracle: tuple[str, str, str | None]
) -> None:
    tokenizer = make_tokenizer(byte_level())
    request = Request(id=1, tokens=[1], max_tokens=9, stop=[stop], thought=thought)
    text = tokenizer.answer_text(request)
    parts = [text.add(token) for each in answer for token in tokenizer.encode(each)]
    parts.append(text.close())
    thoughts, texts = ("".join(each) for each in zip(*parts, strict=True))
    assert (thoughts, texts, text.stop) == oracle


def test_a_thought_parts_the_text_around_it() -> None:
    tokenizer = make_tokenizer(byte_level())
    end = id_of(tokenizer, "<|end|>")
    marks = Thought("<|end|>", "x", "text")
    text = tokenizer.answer_text(
        Request(id=1, tokens=[1], max_tokens=9, stop=["ab"], thought=marks)
    )
    (a,), (b,), (x,) = map(tokenizer.encode, "abx")
    for token in (a, end, b, x, b):
        text.add(token)
    assert text.stop is None


def test_of_a_hidden_token_only_the_name_counts() -> None:
    tokenizer = make_tokenizer(byte_level())
    end, (letter,) = id_of(tokenizer, "<|end|>"), tokenizer.encode("a")
    for stop, token, oracle in (("<|end|>", end, "<|end|>"), ("a", letter, None)):
        text = tokenizer.answer_text(Request(id=1, tokens=[1], max_tokens=9, stop=[stop]))
        text.add(token, hidden=True)
        assert text.stop == oracle


def test_an_answer_that_goes_on_begins_with_its_space() -> None:
    tokenizer = make_tokenizer(sentencepiece())
    word = tokenizer.encode("Hello")[0]
    for goes_on, oracle in ((True, " "), (False, None)):
        request = Request(id=1, tokens=[word], max_tokens=9, stop=[" "], goes_on=goes_on)
        text = tokenizer.answer_text(request)
        text.add(word)
        assert text.stop == oracle


def test_each_kind_of_marks_has_its_splitter() -> None:
    assert isinstance(make_splitter(THINK), ThoughtSplitter)
    assert isinstance(make_splitter(Channels()), ChannelSplitter)
