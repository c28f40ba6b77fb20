"""Calls as the families' own templates write them, which their models learned to write.

An answer is what a template makes of an assistant's turn with calls: a source of every mark that
is not our own.
"""

from collections.abc import Sequence

import pytest

from bessemer.engine.text.specials import NONE
from bessemer.translate.chat import ArgumentsDelta, Chat, Message, Tool, ToolCall, ToolCallBegun
from bessemer.translate.parsers.parser import AnswerToken
from bessemer.translate.parts import said
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


def written(
    family: str, calls: Sequence[ToolCall], text: str = "", tools: Sequence[Tool] = TOOLS
) -> str:
    """Return what a family's template makes of a turn with calls, and of what is before it."""
    turn = Message("assistant", said(text), calls=tuple(calls))
    chat = Chat("m", (ASK, turn), tools=tuple(tools), template={"add_generation_prompt": False})
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


def rendered(family: str, *turns: Message) -> str:
    return checkpoint(family).prompter.template.render(Chat("m", turns, tools=TOOLS))


def called(number: int, text: str = "", thought: str | None = None) -> tuple[Message, Message]:
    """Return a turn that calls, and its result."""
    call = ToolCall(f"callnum0{number}", "clock", "{}")
    turn = Message("assistant", said(text), thought, calls=(call,))
    return turn, Message("tool", said(f"{number} o'clock"), result_of=call.id)


RULES = Message("system", said("Be brief."))


def test_a_text_beside_a_thought_and_a_call_ends_the_thought() -> None:
    """gpt-oss's template refuses it anywhere else."""
    prompt = rendered("gpt_oss", ASK, *called(1, "I look.", "Hm."))
    assert "<|channel|>analysis<|message|>Hm.\n\nI look.<|end|>" in prompt
    assert "analysis<|message|>I look.<|end|>" in rendered("gpt_oss", ASK, *called(1, "I look."))


@pytest.mark.parametrize("family", ["mistral_nemo", "mistral_small_3_2"])
def test_texts_beside_calls_are_left_out_where_two_have_no_place(family: str) -> None:
    assert "I look." in rendered(family, ASK, *called(1, "I look."))
    prompt = rendered(family, ASK, *called(1, "I look."), *called(2, "I look."))
    assert "I look." not in prompt and prompt.count("[TOOL_CALLS]") == 2
    assert prompt.count("[TOOL_RESULTS]") == 2 and "2 o'clock" in prompt


def test_a_system_message_stays_where_a_result_is_last() -> None:
    """Mistral Nemo's template has it in the last turn, if that is the user's."""
    prompt = rendered("mistral_nemo", RULES, ASK, *called(1))
    assert "[INST]Be brief.\n\nHow warm is it?[/INST]" in prompt
    more = rendered("mistral_nemo", RULES, ASK, *called(1), Message("assistant", said("So.")), ASK)
    assert more.endswith("[INST]Be brief.\n\nHow warm is it?[/INST]")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_system_says_late_stays_where_it_was_once_more_follows(family: str) -> None:
    turns = (RULES, ASK, Message("system", said("It is May.")))
    before, after = rendered(family, *turns), rendered(family, *turns, *called(1))
    assert "It is May." in before
    place = before.index("It is May.")
    assert after[: place + 10] == before[: place + 10]
