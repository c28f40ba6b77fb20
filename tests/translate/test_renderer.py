"""Prompts of a request: rendered conversations, texts and token ids, and what cannot be one."""

import sys

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Chat, Completion, ReasoningDelta
from bessemer.translate.parsers.parser import AnswerToken, PlainParser
from tests.translate.test_answer import HELLO, RENDERER, TEMPLATE, TOKENIZER


def test_a_conversation_is_the_models_own_template_without_more_special_tokens() -> None:
    text = TEMPLATE.render(Chat("m", HELLO))
    prompt = RENDERER.conversation(Chat("m", HELLO), text, 200)
    assert prompt.tokens == TOKENIZER.encode(text, special=False)
    assert prompt.echo is None


def test_a_conversation_that_renders_to_nothing_is_refused() -> None:
    with pytest.raises(Refusal, match="it is empty") as caught:
        RENDERER.conversation(Chat("m", HELLO), "", 200)
    assert (caught.value.status, caught.value.field) == (400, "messages")


def test_its_parser_begins_where_the_prompt_ends() -> None:
    prompt = RENDERER.conversation(Chat("m", HELLO), "Hello<think>", 200)
    assert prompt.parser(3).feed(AnswerToken(1, "Hm")) == (ReasoningDelta(3, "Hm"),)


def test_texts_and_tokens() -> None:
    ids = tuple(TOKENIZER.encode("b c"))
    prompts = RENDERER.prompts(Completion("m", ("a", ids), echo=True), 200)
    assert [prompt.tokens for prompt in prompts] == [TOKENIZER.encode("a"), list(ids)]
    assert [prompt.echo for prompt in prompts] == ["a", "b c"]
    assert all(isinstance(prompt.parser(0), PlainParser) for prompt in prompts)


@pytest.mark.parametrize(
    ("prompt", "says"), [("", "must not be empty"), ((10**6,), "is no token id of this model")]
)
def test_what_is_no_prompt(prompt: str | tuple[int, ...], says: str) -> None:
    with pytest.raises(Refusal, match=says) as caught:
        RENDERER.prompts(Completion("m", (prompt,)), 200)
    assert (caught.value.status, caught.value.field) == (400, "prompt")


def test_hopeless_prompts_never_reach_the_tokenizer() -> None:
    text = "x" * (200 * TOKENIZER.longest + 1)
    for take in (
        lambda: RENDERER.prompts(Completion("m", (text,)), 200),
        lambda: RENDERER.conversation(Chat("m", HELLO), text, 200),
    ):
        with pytest.raises(Refusal) as caught:
            take()
        assert caught.value.code == "context_length_exceeded"


def test_a_template_is_stopped_beyond_what_a_context_can_hold_but_not_before_a_megabyte() -> None:
    assert RENDERER.limit(200) == 2**20
    assert RENDERER.limit(2**20) == 2**20 * TOKENIZER.longest
    assert RENDERER.limit(sys.maxsize) == 2**26
