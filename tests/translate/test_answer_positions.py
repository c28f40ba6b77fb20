"""Where the tokens of a completion stand: offsets index prompt and answer, read as one text."""

from collections.abc import Callable, Sequence
from itertools import count

import pytest
import tokenizers

from bessemer.engine.request import GenerationDefaults, Started, Token, TokenLogprobs
from bessemer.engine.text.tokenizer import Tokenizer
from bessemer.translate.answer import AnswerStream, Bounds
from bessemer.translate.chat import Completion, Finish, GenerationOptions, TextDelta, TokenText
from bessemer.translate.parsers.formats import choose
from bessemer.translate.renderer import Renderer
from tests.engine.text.tiny_tokenizers import byte_level, id_of, make_tokenizer, sentencepiece

Build = Callable[[], tokenizers.Tokenizer]
BOTH = pytest.mark.parametrize("build", [byte_level, sentencepiece])


def answered(
    tokenizer: Tokenizer,
    prompt: str | tuple[int, ...],
    answer: Sequence[int],
    echo: bool = False,
    skip: bool = True,
) -> tuple[str, list[TokenText]]:
    options = GenerationOptions(logprobs=0, skip_special_tokens=skip)
    request = Completion("m", (prompt,), options, echo)
    renderer = Renderer(tokenizer, choose("", ()))
    numbers, bounds = count(1), Bounds(999, 999, GenerationDefaults(), 99999)
    prompts = renderer.prompts(request, 999, 99999)
    stream = AnswerStream(request, prompts, tokenizer, bounds, lambda: next(numbers), 0, float)
    (asked,) = stream.requests
    entries = [TokenLogprobs(token, -1.0) for token in asked.tokens[1:] if echo]
    steps = [Token(asked.id, [], prompt=entries)]
    steps += [Token(asked.id, [t], None, logprobs=[TokenLogprobs(t, -1.0)]) for t in answer]
    steps.append(Token(asked.id, [], "length"))
    events = [e for step in (Started(asked.id, 0), *steps) for e in stream.take(step)]
    assert isinstance(events[-1], Finish)
    deltas = [e for e in events if isinstance(e, TextDelta)]
    return "".join(d.text for d in deltas), [t for d in deltas for t in d.tokens]


def slices(text: str, tokens: Sequence[TokenText]) -> list[str]:
    ends = [*(t.offset for t in tokens[1:]), len(text)]
    return [text[t.offset : end] for t, end in zip(tokens, ends, strict=True)]


@BOTH
@pytest.mark.parametrize("text", ["Hello Hello", "naïve 東京 👍!", "a  b"])
def test_prompt_and_answer_are_one_text_wherever_it_is_cut(build: Build, text: str) -> None:
    tokenizer = make_tokenizer(build())
    tokens = tokenizer.encode(text)
    whole = tokenizer.decode(tokens)
    for at in range(1, len(tokens)):
        prompt, rest = tuple(tokens[:at]), tokens[at:]
        shown, entries = answered(tokenizer, prompt, rest, echo=True)
        assert shown == whole and "".join(slices(whole, entries)) == whole
        said, own = answered(tokenizer, prompt, rest)
        assert whole.endswith(said) and [t.offset for t in own] == [t.offset for t in entries[at:]]
        assert own[0].offset == len(whole) - len(said)


@BOTH
def test_a_token_that_holds_a_part_of_a_character_stands_where_that_does(build: Build) -> None:
    tokenizer = make_tokenizer(build())
    tokens = tokenizer.encode("a👍b")
    text, entries = answered(tokenizer, "Hi", tokens)
    places = [t.offset - 2 for t in entries]
    if build is byte_level:
        assert (text, places[0], places[-1]) == ("a👍b", 0, 2)
        assert set(places[1:-1]) == {1}
    else:  # with a space before the text
        assert (text, places[:2], places[-1]) == (" a👍b", [0, 1], 3)
        assert set(places[2:-1]) == {2}


def test_special_tokens_take_the_room_that_they_are_shown_in() -> None:
    tokenizer = make_tokenizer(byte_level())
    end = id_of(tokenizer, "<|end|>")
    (a,), (b,) = map(tokenizer.encode, "ab")
    text, entries = answered(tokenizer, (a, end), [end, b, end, a])
    assert (text, [t.offset for t in entries]) == ("ba", [1, 1, 2, 2])
    text, entries = answered(tokenizer, (a, end), [end, b, end, a], skip=False)
    assert (text, [t.offset for t in entries]) == ("<|end|>b<|end|>a", [8, 15, 16, 23])
    text, entries = answered(tokenizer, (a, end), [b], echo=True)
    assert (text, slices(text, entries)) == ("ab", ["a", "", "b"])
    text, entries = answered(tokenizer, (a, end), [b], echo=True, skip=False)
    assert (text, slices(text, entries)) == ("a<|end|>b", ["a", "<|end|>", "b"])


def test_a_prompt_that_is_a_text_is_echoed_as_it_was_sent() -> None:
    tokenizer = make_tokenizer(byte_level())
    (b,) = tokenizer.encode("b")
    text, entries = answered(tokenizer, "a<|end|> x", [b], echo=True)
    assert (text, slices(text, entries)[:2]) == ("a<|end|> xb", ["a", "<|end|>"])
    text, entries = answered(tokenizer, "a<|end|> x", [b])
    assert (text, entries[0].offset) == ("b", 10)


def test_the_first_tokens_name_keeps_its_space() -> None:
    tokenizer = make_tokenizer(sentencepiece())
    text, entries = answered(tokenizer, "an", tokenizer.encode("Hello"))
    assert (text, entries[0].text, entries[0].raw) == (" Hello", " Hel", b" Hel")


def test_bytes_that_are_no_character() -> None:
    tokenizer = make_tokenizer(byte_level())
    ids = [id_of(tokenizer, name) for name in ("ð", "a", "ļ", "b")]
    text, entries = answered(tokenizer, "x", ids)
    assert text == "\ufffda\ufffdb"
    assert [t.offset for t in entries] == [1, 1, 3, 4]
