"""Answers with calls, from tokens to events: marks that are special tokens, thoughts, ends."""

import json

import pytest

from bessemer.translate.chat import ToolChoice
from tests.translate.called import TOOLS
from tests.translate.scripted import SIZES, Scripted

CHATML = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
ARGUMENTS = '{"city": "Zü\\"r", "days": 3}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
WIDE = "I." + " " * 1001  # more than may belong to a call
WEATHER = ("get_weather", ARGUMENTS)
CLOCK = ("clock", "{}")
MISTRAL = ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]")
HARMONY = (
    *("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|call|>"),
    "<|return|>",
)


def hermes(answer: str) -> Scripted:
    return Scripted(CHATML, answer + "<|im_end|>", ("<|im_end|>",), ("<|im_end|>",))


def mistral(answer: str) -> Scripted:
    return Scripted("{{ tools }}" + CHATML, answer + "</s>", (*MISTRAL, "</s>"), ("</s>",))


def harmony(answer: str) -> Scripted:
    template = "{# tools #}" + CHATML + "<|start|>assistant"
    return Scripted(template, answer, HARMONY, ("<|return|>",))


def message(
    name: str, head: str = "<|channel|>commentary to=functions.{} <|constrain|>json"
) -> str:
    return f"{head.format(name)}<|message|>{ARGUMENTS}<|call|>"


@pytest.mark.parametrize(
    ("model", "heard"),
    [
        (hermes(f"I look.\n{CALL}"), ("", "I look.", (WEATHER,), "tool_calls")),
        (hermes("I." + "\n" * 1000 + CALL), ("", "I.", (WEATHER,), "tool_calls")),
        (hermes(WIDE + CALL), ("", WIDE, (WEATHER,), "tool_calls")),
        (hermes(f"<think>\nHm.</think>\n\n{CALL}"), ("Hm.", "", (WEATHER,), "tool_calls")),
        (hermes(f"<think>{CALL}</think>No."), (CALL, "No.", (), "stop")),  # no call in a thought
        (hermes(f"<think>{CALL}"), (CALL, "", (), "stop")),
        (hermes("None of them."), ("", "None of them.", (), "stop")),
        (hermes(CALL[:-30]), ("", CALL[:-30], (WEATHER[0],), "stop")),  # broken
        (
            mistral(f"I look.[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}[TOOL_CALLS]clock[ARGS]{{}}"),
            ("", "I look.", (WEATHER, CLOCK), "tool_calls"),
        ),
        (
            mistral('[TOOL_CALLS][{"name": "clock", "arguments": {}, "id": "abcdefghi"}]'),
            ("", "", (CLOCK,), "tool_calls"),
        ),
        (
            harmony(f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant{message('get_weather')}"),
            ("Hm.", "", (WEATHER,), "tool_calls"),
        ),
        (
            harmony(message("get_weather", " to=functions.{}<|channel|>commentary json")),
            ("", "", (WEATHER,), "tool_calls"),
        ),
        (
            harmony(message("get_weather", "<|channel|>analysis to=functions.{} code")),
            ("", "", (WEATHER,), "tool_calls"),
        ),
        (
            harmony(
                f"<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
                f"{message('get_weather')}"
            ),
            ("", "I look.", (WEATHER,), "tool_calls"),
        ),
        (
            harmony("<|channel|>final<|message|>No need.<|return|>"),
            ("", "No need.", (), "stop"),
        ),
        (harmony(message("unknown")), ("", f"functions.unknown{ARGUMENTS}", (), "stop")),
    ],
)  # fmt: skip
def test_an_answer_is_the_same_in_tokens_of_any_size(
    model: Scripted, heard: tuple[str, str, tuple[tuple[str, str] | str, ...], str]
) -> None:
    """H5.12 and H5.13: calls come in streams too, and invalid ones stay text."""
    for size in SIZES:
        got = model.chat(size, tools=TOOLS)
        calls = tuple(call if whole(call[1]) else call[0] for call in got.calls)
        assert (got.reasoning, got.text, calls, got.reason) == heard


def whole(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False


def test_marks_are_text_where_no_tools_may_be_called() -> None:
    for choice, tools in ((ToolChoice(), ()), (ToolChoice("none"), TOOLS)):
        got = hermes(CALL).chat(3, tools=tools, choice=choice)
        assert (got.text, got.calls, got.reason) == (CALL, (), "stop")
        got = harmony(message("get_weather")).chat(3, tools=tools, choice=choice)
        assert (got.text, got.calls, got.reason) == (ARGUMENTS, (), "stop")


def test_only_the_first_call_where_one_may_be_made() -> None:
    got = hermes(CALL + CALL).chat(2, tools=TOOLS, choice=ToolChoice(parallel=False))
    assert (got.text, got.calls, got.reason) == ("", (WEATHER,), "tool_calls")


def test_a_tool_that_is_not_there_is_not_called() -> None:
    """R4.5: a call of an unknown tool is none."""
    answer = CALL.replace("get_weather", "other")
    got = hermes(answer).chat(2, tools=TOOLS)
    assert (got.text, got.calls, got.reason) == (answer, (), "stop")


def test_an_answer_cut_by_its_length_says_so() -> None:
    """What is cut is text from the call's first mark on; the reason is length."""
    model = hermes(f"I look.{CALL}{CALL}")
    length = len(model.script(1))
    for cut in (20, 40, 60, length // 2 + 30, length - 3):
        got = model.chat(1, cut=cut, tools=TOOLS)
        assert got.reason == "length"
        assert got.text.startswith("I look.")
        calls = [call for call in got.calls if whole(call[1])]
        assert calls == [WEATHER] * len(calls)
    # Nothing of the call is missing but the mark of its end.
    got = model.chat(1, cut=length - 3, tools=TOOLS)
    assert (got.text, len(got.calls), got.reason) == ("I look.", 2, "length")


def test_stop_strings_count_in_text_and_end_an_answer_with_calls_as_stop() -> None:
    model = hermes(f"{CALL} Now wait END and more")
    for size in SIZES:
        got = model.chat(size, tools=TOOLS, stop=("END",))
        assert (got.text, got.stop, got.reason) == ("Now wait ", "END", "stop")
        assert got.calls == (WEATHER,)


def test_names_of_special_tokens_that_are_spelled_are_text() -> None:
    model = mistral("[TOOL_CALLS]clock[ARGS]{}")
    spelled = [t for c in "[TOOL_CALLS]clock[ARGS]{}" for t in model.tokenizer.encode(c)]
    model.script = lambda size: spelled  # type: ignore[method-assign]
    got = model.chat(1, tools=TOOLS)
    assert (got.text, got.calls) == ("[TOOL_CALLS]clock[ARGS]{}", ())


def test_special_tokens_in_arguments_are_no_text() -> None:
    model = mistral('[TOOL_CALLS]clock[ARGS]{"a": "b[ARGS]c"}')
    for size in SIZES:
        assert model.chat(size, tools=TOOLS).calls == (("clock", '{"a": "bc"}'),)


def test_text_after_a_call_may_end_with_half_a_mark() -> None:
    for after in ("a <", "} b", "x </tool"):
        for size in SIZES:
            assert hermes(f"{CALL}\n{after}").chat(size, tools=TOOLS).text == after
