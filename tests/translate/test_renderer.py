"""Prompts of a request: rendered conversations, texts and token ids, and what cannot be one."""

import sys
from dataclasses import replace

import pytest
from tokenizers import Tokenizer as Encoding
from tokenizers.models import BPE

from bessemer.engine.request import Refusal
from bessemer.engine.text.specials import NONE
from bessemer.translate.chat import Chat, Completion, Message, ReasoningDelta
from bessemer.translate.parsers.parser import AnswerToken, PlainParser
from bessemer.translate.parts import said
from tests.translate.test_answer import HELLO, RENDERER, TEMPLATE, TOKENIZER, VOCABULARY


def test_a_conversation_is_the_models_own_template_without_more_special_tokens() -> None:
    text = TEMPLATE.render(Chat("m", HELLO))
    prompt = RENDERER.conversation(Chat("m", HELLO), text, 200, VOCABULARY)
    assert prompt.tokens == TOKENIZER.encode(text, special=False)
    assert not (prompt.echo or prompt.goes_on)


def test_a_conversation_that_renders_to_nothing_is_refused() -> None:
    with pytest.raises(Refusal, match="it is empty") as caught:
        RENDERER.conversation(Chat("m", HELLO), "", 200, VOCABULARY)
    assert (caught.value.status, caught.value.field) == (400, "messages")


def test_its_parser_begins_where_the_prompt_ends() -> None:
    prompt = RENDERER.conversation(Chat("m", HELLO), "Hello<think>", 200, VOCABULARY)
    assert prompt.parser(3, NONE).feed(AnswerToken(1, "Hm")) == (ReasoningDelta(3, "Hm"),)


def test_texts_and_tokens() -> None:
    ids = tuple(TOKENIZER.encode("b c"))
    prompts = RENDERER.prompts(Completion("m", ("a", ids), echo=True), 200, VOCABULARY)
    assert [prompt.tokens for prompt in prompts] == [TOKENIZER.encode("a"), list(ids)]
    assert [prompt.text for prompt in prompts] == ["a", "b c"]
    assert all(prompt.echo and prompt.goes_on for prompt in prompts)
    assert all(isinstance(prompt.parser(0, NONE), PlainParser) for prompt in prompts)


def test_what_is_no_prompt() -> None:
    with pytest.raises(Refusal, match="is no token id of this model") as caught:
        RENDERER.prompts(Completion("m", ((10**6,),)), 200, VOCABULARY)
    assert (caught.value.status, caught.value.field) == (400, "prompt")


@pytest.mark.parametrize(
    ("special_tokens", "start"),
    [
        ({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}, "<|im_start|>"),
        ({"eos_token": "<|im_end|>"}, "<|im_end|>"),
        ({"bos_token": "<unknown>", "eos_token": "<|im_end|>"}, "<|im_end|>"),
        ({}, "<|endoftext|>"),
    ],
)
def test_an_empty_prompt_is_the_beginning_of_a_document(
    special_tokens: dict[str, str], start: str
) -> None:
    tokenizer = replace(TOKENIZER, special_tokens=special_tokens)
    renderer = replace(RENDERER, tokenizer=tokenizer)
    for prompt in ("", ()):
        (made,) = renderer.prompts(Completion("m", (prompt,), echo=True), 200, VOCABULARY)
        assert (made.tokens, made.text) == ([tokenizer.id_of(start)], "")


def test_an_empty_prompt_of_a_model_without_a_beginning_is_refused() -> None:
    bare = replace(TOKENIZER, encoding=Encoding(BPE({"a": 0}, [])), special_tokens={})
    with pytest.raises(Refusal, match="prompt must have one") as caught:
        replace(RENDERER, tokenizer=bare).prompts(Completion("m", ("",)), 200, VOCABULARY)
    assert (caught.value.status, caught.value.field) == (400, "prompt")


def test_ids_that_the_model_lacks_are_refused_with_their_text() -> None:
    known = TOKENIZER.encode("b c")
    rendered = TEMPLATE.render(Chat("m", HELLO))
    for tokens, field, refuse in (
        (known, "prompt", lambda wrong: RENDERER.prompts(Completion("m", ("b c",)), 200, wrong)),
        (
            known,
            "prompt",
            lambda wrong: RENDERER.prompts(Completion("m", ("b", tuple(known))), 200, wrong),
        ),
        (
            TOKENIZER.encode(rendered, special=False),
            "messages",
            lambda wrong: RENDERER.conversation(Chat("m", HELLO), rendered, 200, wrong),
        ),
    ):
        wrong = max(tokens)
        text = TOKENIZER.token_bytes(wrong).decode()
        with pytest.raises(Refusal, match="is no token id of this model") as caught:
            refuse(wrong)
        assert (caught.value.status, caught.value.field) == (400, field)
        assert f"{wrong} ({text!r})" in caught.value.message


def test_ids_that_the_tokenizer_lacks_are_the_clients_own() -> None:
    padded = (VOCABULARY + 3, VOCABULARY + 9)
    (prompt,) = RENDERER.prompts(Completion("m", (padded,), echo=True), 200, VOCABULARY + 10)
    assert (prompt.tokens, prompt.text, prompt.echo) == ([*padded], "", True)
    with pytest.raises(Refusal, match=f"^{VOCABULARY + 9} is no token id of this model"):
        RENDERER.prompts(Completion("m", (padded,)), 200, VOCABULARY + 9)


def test_hopeless_prompts_never_reach_the_tokenizer() -> None:
    text = "x" * (200 * TOKENIZER.longest + 1)
    for take in (
        lambda: RENDERER.prompts(Completion("m", (text,)), 200, VOCABULARY),
        lambda: RENDERER.conversation(Chat("m", HELLO), text, 200, VOCABULARY),
    ):
        with pytest.raises(Refusal) as caught:
            take()
        assert caught.value.code == "context_length_exceeded"
        assert f"has {len(text)} characters" in caught.value.message


def test_a_template_is_stopped_beyond_what_a_context_can_hold_but_not_before_a_megabyte() -> None:
    assert RENDERER.limit(200) == 2**20
    assert RENDERER.limit(2**20) == 2**20 * TOKENIZER.longest
    assert RENDERER.limit(sys.maxsize) == 2**26
    most, more = (Chat("m", (Message("user", said("x" * n)),)) for n in (2**20, 2**20 + 1))
    assert RENDERER.guarded(most, 200) is most
    with pytest.raises(Refusal, match="has 1048577 characters"):
        RENDERER.guarded(more, 200)
