"""Texts and ids as a chat model takes them to embed them."""

from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from bessemer.engine.request import Refusal
from bessemer.translate.embedding_inputs import TEXTS, check, portions, read_inputs
from bessemer.translate.openai_embeddings import Embedding
from bessemer.translate.renderer import Renderer
from tests.translate.test_answer import RENDERER, VOCABULARY

CONTEXT = 12


def read(*given: Any, truncate: bool = False, renderer: Renderer = RENDERER) -> list[list[int]]:
    read = read_inputs(renderer, given, 5, truncate, CONTEXT, VOCABULARY)
    return [[*each] for each in read]


def test_a_few_at_a_time_with_the_number_of_the_first() -> None:
    inputs = tuple(str(number) for number in range(2 * TEXTS + 1))
    found = [*portions(Embedding("m", inputs))]
    assert [first for first, _ in found] == [0, TEXTS, 2 * TEXTS]
    assert tuple(each for _, given in found for each in given) == inputs
    assert not [*portions(Embedding("m", ()))]


def test_texts_are_whole_ones_and_ids_stay_as_they_are() -> None:
    encode = RENDERER.tokenizer.encode
    assert read("Hello", (7, 5)) == [encode("Hello"), [7, 5]]


def test_what_the_tokenizer_puts_around_a_text_is_there() -> None:
    name, token = next((name, id) for id, name in RENDERER.tokenizer.special_names.items())
    encoding = Tokenizer.from_str(RENDERER.tokenizer.encoding.to_str())
    encoding.post_processor = TemplateProcessing(f"{name} $A", special_tokens=[(name, token)])
    around = Renderer(replace(RENDERER.tokenizer, encoding=encoding), RENDERER.format)
    ((first, *rest),) = read("Hello", renderer=around)
    assert (first, rest) == (token, RENDERER.tokenizer.encode("Hello"))


def test_names_of_control_tokens_are_text_unless_the_server_says_otherwise() -> None:
    name, token = next((name, id) for id, name in RENDERER.tokenizer.special_names.items())
    (as_text,), wide = read(name), Renderer(RENDERER.tokenizer, RENDERER.format, parse_special=True)
    assert token not in as_text and read(name, renderer=wide)[0].count(token) == 1


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ((7,) * 13, "context_length_exceeded", "It has 13 tokens, and the model takes 12"),
        ("a b " * 7, "context_length_exceeded", "and the model takes 12"),
        ("a b " * 5000, "context_length_exceeded", "than this model's context"),
        ((7, VOCABULARY), "invalid_value", f"{VOCABULARY} is no token id|'?\\) is no token id"),
        ((), "invalid_value", "It has no tokens"),
    ],
)
def test_what_cannot_be_taken_is_named(given: Any, code: str, says: str) -> None:
    with pytest.raises(Refusal, match=says) as caught:
        read("a", given)
    refusal = caught.value
    assert (refusal.status, refusal.code, refusal.field) == (400, code, "input")
    assert refusal.message.startswith("input[6]: ")


def test_the_end_is_cut_where_that_is_asked_for() -> None:
    whole = RENDERER.tokenizer.encode("a b " * 500)
    assert read("a b " * 500, (7,) * 9, (6,) * 13, truncate=True) == [
        whole[:CONTEXT],
        [7] * 9,
        [6] * CONTEXT,
    ]


def test_dimensions_and_prompts_are_looked_at_before() -> None:
    check(Embedding("m", ("a",), dimensions=8, prompt=""), 8)
    for more, field in (({"dimensions": 9}, "dimensions"), ({"prompt": "query"}, "prompt_name")):
        with pytest.raises(Refusal) as caught:
            check(Embedding("m", ("a",), **more), 8)  # type: ignore[arg-type]
        assert (caught.value.code, caught.value.field) == ("invalid_value", field)
