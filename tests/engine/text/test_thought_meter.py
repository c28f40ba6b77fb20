"""Where a thought that has gone on for long enough is closed."""

import pytest

from bessemer.engine.request import Channels, Request, Thought, ThoughtBudget
from bessemer.engine.text.answer_text import make_splitter
from bessemer.engine.text.thought_meter import GRACE, MARK, ThoughtMeter

from .tiny_tokenizers import byte_level, make_tokenizer, sentencepiece

THINK = Thought("<think>", "</think>", "thought")
CLOSING, AGAIN = [1, 2, 3], [4, 5]


def meter(tokens: int, thought: Thought | Channels = THINK, line: int = 1) -> ThoughtMeter:
    budget = ThoughtBudget(tokens=tokens, closing=CLOSING, again=AGAIN, line=line)
    return ThoughtMeter(budget, make_splitter(thought))


def closed_after(meter: ThoughtMeter, *texts: str) -> int | None:
    """Return after how many tokens of these texts the thought is closed."""
    for at, text in enumerate(texts):
        if meter.forced:
            return at
        meter.add(text, whole=True)
    return len(texts) if meter.forced else None


def test_no_thought_at_all() -> None:
    assert [*meter(0).forced] == CLOSING, "before the first token"
    late = meter(0, Thought("<think>", "</think>"))
    assert not late.forced and late.is_due
    assert closed_after(late, "<thi", "nk>") == 2
    never = meter(0, Thought("<think>", "</think>"))
    assert closed_after(never, "Hi", "<think>", "you") is None and not never.is_due


def test_what_is_due_is_known_a_token_ahead() -> None:
    """A step more is under way by then: what is drawn in it has to wait for this one."""
    one, due = meter(3), []
    for _ in range(3):
        due.append(one.is_due)
        one.add("word ", whole=True)
    assert due == [False, False, True] and one.forced and one.is_due


def test_only_tokens_within_a_thought_count() -> None:
    for before in (["<thi", "nk>"], [" ", "\n", "<think>"]):
        late = meter(3, Thought("<think>", "</think>"))
        assert closed_after(late, *before, *["word "] * 9) == len(before) + 3


def test_a_small_budget_is_kept_to_the_token() -> None:
    for tokens in range(8):
        assert closed_after(meter(tokens), *["word "] * 20) == tokens


def test_what_is_forced_is_due_a_token_before() -> None:
    one, due = meter(3), []
    for _ in range(3):
        due.append((one.is_due, bool(one.forced)))
        one.add("a ", whole=True)
    assert due == [(False, False), (False, False), (True, False)] and one.forced


@pytest.mark.parametrize("tokens", [16, 80, 800])
def test_a_larger_one_waits_for_the_end_of_a_sentence(tokens: int) -> None:
    grace = min(GRACE, tokens // 8)
    words = [" on"] * tokens
    for end in (".", "!", "?", ".\n", ". ", '."', ".)", "\n", "。"):
        assert closed_after(meter(tokens), *words[:-1], end, *words) == tokens
        assert closed_after(meter(tokens), *words, " on" + end, *words) == tokens + 1
    late = [" on"] * (tokens + grace - 1)
    assert closed_after(meter(tokens), *late, ",", *words) == tokens + grace

    assert closed_after(meter(tokens), *words, *words) == tokens + grace


def test_a_word_ends_it_in_the_second_half_of_the_grace() -> None:
    words = [" on"] * 100
    assert closed_after(meter(80), *words[:85], ",", *words) == 86
    assert closed_after(meter(80), *words[:81], ",", *words) == 90


def test_a_character_is_never_cut_in_half() -> None:
    meter_ = meter(3)
    for text, whole in (("a", True), ("b", True), ("", False), ("", False)):
        assert not meter_.forced
        meter_.add(text, whole)
    assert not meter_.forced
    meter_.add("☕", True)
    assert [*meter_.forced] == CLOSING


def test_a_mark_that_the_model_is_writing_is_waited_for() -> None:
    assert closed_after(meter(2), "a", "b</", "think", ">", "Hi") is None
    assert closed_after(meter(2), "a", "b</", "thanks") == 3
    assert closed_after(meter(2), "a", *["<"] * 50) == 2 + MARK, "and not for ever"


def test_a_line_that_has_ended_is_not_ended_again() -> None:
    for text, closing in (("a", CLOSING), ("a\n", CLOSING[1:])):
        one = meter(1)
        one.add(text, whole=True)
        assert [*one.forced] == closing


def test_forced_tokens_count_for_nothing_and_later_thoughts_are_closed_at_once() -> None:
    channels = meter(2, Channels("<|channel|>analysis<|message|>"), line=0)
    for text in ("Hm", "."):
        channels.add(text, whole=True)
    assert [*channels.forced] == CLOSING
    for text in ("<|end|>", "<|start|>assistant", "<|channel|>final<|message|>"):
        channels.add(text, whole=True)
    assert not channels.forced and channels.is_due, "another thought may come"
    assert closed_after(channels, "Hi", "<|end|>", "<|start|>assistant<|channel|>analysis") is None
    channels.add("<|message|>", whole=True)
    assert [*channels.forced] == AGAIN


def test_a_request_with_a_budget_has_a_meter() -> None:
    for encoding in (byte_level(), sentencepiece()):
        tokenizer = make_tokenizer(encoding)
        budget = ThoughtBudget(tokens=1, closing=[7], again=[7])
        request = Request(id=1, tokens=[1], max_tokens=9, thought=THINK, budget=budget)
        reading = tokenizer.answer_text(request)
        assert reading.meter is not None
        first = tokenizer.encode("☕", special=False)
        for token in first:
            assert not reading.meter.forced
            reading.add(token)
        assert [*reading.meter.forced] == [7]
