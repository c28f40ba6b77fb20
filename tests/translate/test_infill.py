"""Tests of prompts for the text between two others, as each family's own documents show them."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from bessemer.engine.request import Refusal
from bessemer.engine.text import tokenizer as text
from bessemer.translate.chat import Completion
from bessemer.translate.infill import FORMATS, infill_format
from bessemer.translate.parsers.think import FORMAT
from bessemer.translate.renderer import Renderer

BAR, LOW = "\uff5c", "\u2581"
# The prompt for "ab" before and "cd" after it, by each family's README or its reference code.
SHOWN = {
    "qwen": "<|fim_prefix|>ab<|fim_suffix|>cd<|fim_middle|>",
    "starcoder": "<fim_prefix>ab<fim_suffix>cd<fim_middle>",
    "santacoder": "<fim-prefix>ab<fim-suffix>cd<fim-middle>",
    "deepseek": f"<{BAR}fim{LOW}begin{BAR}>ab<{BAR}fim{LOW}hole{BAR}>cd<{BAR}fim{LOW}end{BAR}>",
    "codegeex": "<|code_suffix|>cd<|code_prefix|>ab<|code_middle|>",
    "seed": "<[fim-suffix]>cd<[fim-prefix]>ab<[fim-middle]>",
    "codellama": f"{LOW}<PRE>ab{LOW}<SUF>cd{LOW}<MID>",
    "codestral": "[SUFFIX]cd[PREFIX]ab",
}
ROWS = dict(zip(SHOWN, FORMATS, strict=True))


def renderer(names: tuple[str, ...], spaced: bool = False) -> Renderer:
    """Return one of a tokenizer whose tokens are characters, and these names."""
    vocabulary = {chr(code): code for code in range(128)} | {LOW: 128, "\u263a": 129}
    encoding = Tokenizer(models.BPE(vocabulary, []))
    encoding.decoder = decoders.Fuse()
    if spaced:
        encoding.normalizer = normalizers.Prepend(LOW)
    else:
        encoding.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    encoding.add_tokens([AddedToken(name, normalized=False) for name in names])
    return Renderer(text.Tokenizer(encoding, {}, None), FORMAT)


def spelled(rendered: Renderer, tokens: list[int]) -> str:
    return "".join(rendered.tokenizer.encoding.id_to_token(token) or "" for token in tokens)


@pytest.mark.parametrize("family", SHOWN)
def test_a_prompt_is_as_the_family_writes_it(family: str) -> None:
    own = ROWS[family]
    model = renderer((*own.marks, *own.ends))
    (prompt,) = model.prompts(Completion("m", ("ab",), suffix="cd"), 999, 999)
    assert spelled(model, prompt.tokens) == SHOWN[family]
    assert [model.tokenizer.encoding.id_to_token(token) for token in prompt.ends] == [*own.ends]
    assert not prompt.goes_on


def test_marks_in_the_texts_are_text() -> None:
    model = renderer(FORMATS[0].marks)
    asked = Completion("m", ("<|fim_prefix|>",), suffix="<|fim_middle|>", parse_special=False)
    (prompt,) = model.prompts(asked, 999, 999)
    ids = [model.tokenizer.id_of(mark) for mark in FORMATS[0].marks]
    assert [prompt.tokens.count(each or 0) for each in ids] == [1, 1, 1]


def test_only_the_first_text_begins_with_sentencepieces_space() -> None:
    model = renderer(FORMATS[0].marks, spaced=True)
    (prompt,) = model.prompts(Completion("m", ("ab",), suffix="cd"), 999, 999)
    assert spelled(model, prompt.tokens) == f"<|fim_prefix|>{LOW}ab<|fim_suffix|>cd<|fim_middle|>"


def test_who_has_no_marks_or_not_all_of_them_says_so() -> None:
    assert infill_format(lambda name: 1) is FORMATS[0]
    for marks in ((), FORMATS[0].marks[:2]):
        model = renderer(marks)
        assert model.infill is None
        with pytest.raises(Refusal, match="no marks to fill in") as caught:
            model.prompts(Completion("m", ("ab",), suffix="cd"), 999, 999)
        assert caught.value.field == "suffix"


def test_tokens_may_go_before_a_suffix_and_too_much_text_is_refused() -> None:
    model = renderer(FORMATS[0].marks)
    (prompt,) = model.prompts(Completion("m", ((97, 98),), suffix="cd"), 999, 999)
    assert spelled(model, prompt.tokens) == SHOWN["qwen"]
    with pytest.raises(Refusal) as caught:
        model.prompts(Completion("m", ("a" * 500,), suffix="c" * 500), 9, 999)
    assert caught.value.code == "context_length_exceeded"
