"""Calls as the families' own templates write them, which their models learned to write.

An answer is what a template makes of an assistant's turn with calls: a source of every mark that
is not our own.
"""

from collections.abc import Sequence

import pytest

from bessemer.engine.text.specials import NONE
from bessemer.translate.chat import ArgumentsDelta, Chat, Message, ToolCall, ToolCallBegun, said
from bessemer.translate.parsers.parser import AnswerToken
from tests.translate.called import TOOLS, cut, joined, meant
from tests.translate.families import FAMILIES
from tests.translate.prompt_ids import checkpoint

ASK = Message("user", said("How warm is it?"))
WEATHER = ToolCall("c1", "get_weather", '{"city": "Zü\\"r\\n", "days": 3, "deep": true}')
CLOCK = ToolCall("c2", "clock", "{}")
MEANT = {"c1": ("get_weather", {"city": 'Zü"r\n', "days": 3, "deep": True}), "c2": ("clock", {})}
# What the answer begins with, of families that look at its beginning.
BEGINS = {"llama3_1": "{", "llama3_2": "{", "gpt_oss": " to="}
# Templates that show neither tools nor calls are told of both as any model is.
PROMPTED = {
    *("gemma", "gemma3", "idefics3", "llama2", "llama3", "llava_next", "phi3", "phi3_5"),
    *("qwen2_5_vl", "smollm2", "smollm3", "smolvlm"),
}


def written(family: str, calls: Sequence[ToolCall], text: str = "") -> str:
    """Return what a family's template makes of a turn with calls, and of what is before it."""
    turn = Message("assistant", said(text), calls=tuple(calls))
    chat = Chat("m", (ASK, turn), tools=TOOLS, template={"add_generation_prompt": False})
    prompt = checkpoint(family).prompter.template.render(chat)
    return prompt[prompt.rindex("How warm is it?") :]


def read(family: str, text: str, size: int = 10**6) -> list[object]:
    """Return the calls that are read of an answer, thoughts and all."""
    prompt = checkpoint(family).prompter.conversation(Chat("m", (ASK,), tools=TOOLS))
    parser = prompt.parser(0, NONE)
    if parser.reasoning and "</think>" not in text:
        text = "</think>" + text  # which templates leave out of earlier turns
    out = [d for piece in cut(text, size) for d in parser.feed(AnswerToken(None, piece))]
    calls = [d for d in [*out, *parser.close()] if isinstance(d, ToolCallBegun | ArgumentsDelta)]
    return meant(joined(calls))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_template_writes_of_calls_is_read_as_these(family: str) -> None:
    """V7: format and parser of a model are found, not told."""
    apart = not checkpoint(family).prompter.template.habits.several
    for calls in ([WEATHER], [WEATHER, CLOCK], [CLOCK, WEATHER]):
        if apart and len(calls) > 1:
            continue  # they are turns of their own
        text = written(family, calls)
        text = text[text.index(BEGINS[family]) :] if family in BEGINS else text
        for size in (1, 3, 10**6):
            assert read(family, text, size) == [MEANT[call.id] for call in calls], text


@pytest.mark.parametrize("family", FAMILIES)
def test_text_beside_a_call_is_shown(family: str) -> None:
    text = written(family, [WEATHER], "I look.")
    assert "get_weather" in text and "I look." in text


def test_the_formats_of_families() -> None:
    names = {family: checkpoint(family).prompter.renderer.tool_format.name for family in FAMILIES}
    assert {family for family, name in names.items() if name == "hermes"} == PROMPTED | {
        *("granite4", "qwen2_5", "qwen3", "qwen3_vl"),
    }
    for family in PROMPTED:
        assert not checkpoint(family).prompter.template.habits.tools
