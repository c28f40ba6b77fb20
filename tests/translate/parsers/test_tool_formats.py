"""Calls of each family, at every split and cut, broken and whole.

The texts are those that the families' own templates and documents show (parsers/tool_formats.py
names them).
"""

# ruff: noqa: RUF001 - marks hold such letters

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.engine.text.specials import Specials
from bessemer.translate.chat import ToolCallBegun
from bessemer.translate.parsers.tool_formats import FORMATS, GENERIC, choose_tools
from tests.translate.called import BY_NAME, cut, deltas, joined, meant, read

CITY = 'Zü"r\\ich\n{[<'  # a text that needs escapes, and looks like marks
JSON_CITY = json.dumps(CITY)
WEATHER = ("get_weather", {"city": CITY, "days": 3, "tags": [1, {"a": None}], "deep": True})
CLOCK: tuple[str, dict[str, Any]] = ("clock", {})
ARGUMENTS = json.dumps(WEATHER[1])
OBJECT = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'
OTHER = '{"name": "clock", "arguments": {}}'
PYTHON = f"get_weather(city={CITY!r}, days=3, tags=[1, {{'a': None}}], deep=True)"
TAGS = (
    f"<function=get_weather>\n<parameter=city>\n{CITY}\n</parameter>\n<parameter=days>\n3\n"
    '</parameter>\n<parameter=tags>\n[1, {"a": null}]\n</parameter>\n<parameter=deep>\nTrue\n'
    "</parameter>\n</function>"
)
QUOTE = '<|"|>'
NONE = ""
STRING = ' string="{}"'
DSML = "｜DSML｜"
SEP = "<｜tool▁sep｜>"
BEGIN, END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"


def invoked(mark: str, value: str = "") -> str:
    values = {"city": CITY, "days": "3", "tags": '[1, {"a": null}]', "deep": "true"}
    string = {"city": "true"} if value else {}
    return "\n".join(
        [
            f'<{mark}invoke name="get_weather">',
            *(
                f'<{mark}parameter name="{k}"{value.format(string.get(k, "false"))}>{v}'
                f"</{mark}parameter>"
                for k, v in values.items()
            ),
            f"</{mark}invoke>",
        ]
    )


def gemma(quote: str) -> str:
    city = f"{quote}{CITY}{quote}"
    return f"call:get_weather{{city:{city},days:3,tags:[1,{{a:null}}],deep:true}}"


# An answer that calls the weather and then the clock, with text before.
ANSWERS = {
    "hermes": [
        f"I look.\n\n<tool_call>\n{OBJECT}\n</tool_call>\n<tool_call>\n{OTHER}\n</tool_call>",
        f"I look.<tool_call>[{OBJECT}, {OTHER}]</tool_call>",
        f"I look.<tool_call>{OBJECT}\n{OTHER}",
        f'I look.<tool_call>{{"arguments": {ARGUMENTS}, "id": 7, "name": "get_weather"}}'
        '</tool_call><tool_call>{"function": {"name": "clock", "arguments": null}}',
        f'I look.<tool_call>{{"name": "get_weather", "arguments": {json.dumps(ARGUMENTS)}}}'
        '</tool_call><tool_call>{"name": "clock"}</tool_call>',
    ],
    "mistral": [
        f"I look.[TOOL_CALLS][{OBJECT}, {OTHER}]",
    ],
    "mistral-args": [
        f"I look.[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}[TOOL_CALLS]clock[ARGS]{{}}",
        f"I look.[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{ARGUMENTS}"
        "[TOOL_CALLS]clock[CALL_ID]bcdefghij[ARGS]{}",
        f"I look.[TOOL_CALLS]get_weather{ARGUMENTS}[TOOL_CALLS]clock{{}}",
    ],
    "deepseek": [
        f"I look.<｜tool▁calls▁begin｜>{BEGIN}get_weather{SEP}{ARGUMENTS}{END}"
        f"{BEGIN}clock{SEP}{{}}{END}<｜tool▁calls▁end｜>",
        f"I look.{BEGIN}get_weather{SEP}{ARGUMENTS}{END}{BEGIN}clock{SEP}{{}}",
    ],
    "deepseek-v3": [
        f"I look.<｜tool▁calls▁begin｜>{BEGIN}function{SEP}get_weather\n```json\n{ARGUMENTS}\n"
        f"```{END}\n{BEGIN}function{SEP}clock\n```json\n{{}}\n```{END}<｜tool▁calls▁end｜>",
    ],
    "deepseek-v3.2": [
        f"I look.\n\n<{DSML}function_calls>\n{invoked(DSML, STRING)}\n"
        f'<{DSML}invoke name="clock">\n</{DSML}invoke>\n</{DSML}function_calls>',
    ],
    "kimi": [
        "I look.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        f"<|tool_call_argument_begin|>{ARGUMENTS}<|tool_call_end|><|tool_call_begin|>"
        "functions.clock:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
        "<|tool_calls_section_end|>",
    ],
    "minimax": [
        f"I look.\n<minimax:tool_call>\n{invoked(NONE)}\n"
        '<invoke name="clock">\n</invoke>\n</minimax:tool_call>',
    ],
    "seed": [
        "I look.<seed:tool_call>\n"
        + TAGS.replace(">\n", ">").replace("\n</p", "</p")
        + "\n</seed:tool_call><seed:tool_call>\n<function=clock>\n</function>\n</seed:tool_call>",
    ],
    "glm": [
        f"I look.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>{CITY}</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n<arg_key>tags</arg_key>\n"
        '<arg_value>[1, {"a": null}]</arg_value>\n<arg_key>deep</arg_key>\n'
        "<arg_value>true</arg_value>\n</tool_call>\n<tool_call>clock\n</tool_call>",
    ],
    "qwen3-coder": [
        f"I look.\n<tool_call>\n{TAGS}\n</tool_call>\n<tool_call>\n<function=clock>\n</function>\n"
        "</tool_call>",
        f"I look.\n{TAGS}\n</tool_call>\n<function=clock></function>",
    ],
    "functionary": [
        f"I look.<function=get_weather>{ARGUMENTS}</function><function=clock>{{}}</function>"
    ],
    "gemma4": [
        f"I look.<|tool_call>{gemma(QUOTE)}<tool_call|><|tool_call>call:clock{{}}<tool_call|>"
    ],
    "functiongemma": [
        f"I look.<start_function_call>{gemma('<escape>')}<end_function_call>"
        "<start_function_call>call:clock{}<end_function_call>"
    ],
    "tool-code": [f"I look.\n```tool_code\n{PYTHON}\nclock()\n```"],
    "cohere": [
        f'I look.<|START_ACTION|>[\n    {{"tool_call_id": "0", "tool_name": "get_weather", '
        f'"parameters": {ARGUMENTS}}},\n    {{"tool_call_id": "1", "tool_name": "clock", '
        '"parameters": {}}\n]<|END_ACTION|>',
    ],
    "command-r": [
        f'I look.\nAction: ```json\n[\n    {{\n        "tool_name": "get_weather",\n        '
        f'"parameters": {ARGUMENTS}\n    }},\n{{"tool_name": "clock", "parameters": {{}}}}]\n```',
    ],
    "nemotron": [f"I look.<TOOLCALL>[{OBJECT}, {OTHER}]</TOOLCALL>"],
    "lfm2": [
        f"I look.<|tool_call_start|>[{PYTHON}, clock()]<|tool_call_end|>",
        f"I look.<|tool_call_start|>[{OBJECT}, {OTHER}]<|tool_call_end|>",
    ],
    "apertus": [
        f'I look.<|tools_prefix|>[{{"get_weather": {ARGUMENTS}}}, {{"clock": {{}}}}]'
        "<|tools_suffix|>",
    ],
    "olmo3": [f"I look.<function_calls>\n{PYTHON}\nclock()\n</function_calls>"],
    "tool-calls": [
        f"I look.<tool_calls>[{OBJECT}, {OTHER}]</tool_calls>",
        f"I look.\n<tool_calls>\n{OBJECT}\n{OTHER}\n</tool_calls>",
    ],
    "internlm": [
        f"I look.<|action_start|><|plugin|>\n{OBJECT}<|action_end|>"
        f"<|action_start|><|plugin|>\n{OTHER}<|action_end|>",
    ],
    "phi4": [
        f"I look.functools[{OBJECT}, {OTHER}]",
        f"I look.<|tool_call|>[{OBJECT}, {OTHER}]<|/tool_call|>",
    ],
    "granite": [f"I look.<|tool_call|>[{OBJECT}, {OTHER}]"],
    "xlam": [f"[{OBJECT}, {OTHER}]"],
    "llama": [
        f'{{"name": "get_weather", "parameters": {ARGUMENTS}}}; {{"name": "clock", '
        '"parameters": {}}',
        f"[{PYTHON}, clock()]",
        f"<|python_tag|>{OBJECT}; {OTHER}",
        f"I look.<|python_start|>[{PYTHON}, clock()]<|python_end|>",
    ],
    "harmony": [
        f"I look.<|channel|>functions.get_weather<|message|>{ARGUMENTS}<|call|>"
        "<|channel|>functions.clock<|message|>{}<|call|>",
    ],
}
EACH = [(name, answer) for name, answers in ANSWERS.items() for answer in answers]
EACH_ANSWER = pytest.mark.parametrize(("name", "answer"), EACH)
SIZES = (1, 2, 3, 5, 7, 16, 10**6)


def test_every_format_has_its_answers() -> None:
    assert ANSWERS.keys() == BY_NAME.keys()


@EACH_ANSWER
def test_calls_at_every_split(name: str, answer: str) -> None:
    text = ["I look."] if answer.startswith("I look.") else []
    for size in SIZES:
        assert meant(read(name, answer, size)) == [*text, WEATHER, CLOCK]
        assert read(name, answer, size) == read(name, answer)
    assert deltas(BY_NAME[name], [answer])[1] == 2


@EACH_ANSWER
def test_text_after_calls_is_text(name: str, answer: str) -> None:
    if BY_NAME[name].close:
        for size in SIZES:
            assert read(name, answer + "\n Bye now.", size)[-1] == "Bye now."


@EACH_ANSWER
def test_arguments_come_while_they_are_written(name: str, answer: str) -> None:
    """After the city's first letter it is there, but for the last of what may be a mark."""
    if '"arguments": {' in answer and answer.index('"arguments"') < answer.index('"name"'):
        return  # they wait for the name
    if '"{\\"' in answer:
        return  # they are the text of a text
    until = answer[: answer.index("Zü" if "Zü" in answer else "Z\\u00fc") + 40]
    reader_out, _ = deltas(BY_NAME[name], [until])
    first = joined(reader_out)
    assert any(isinstance(each, tuple) and "Z" in each[1] for each in first)


@EACH_ANSWER
def test_an_answer_cut_anywhere_loses_no_text(name: str, answer: str) -> None:
    """A call that is not whole is text as it stands; what is whole stays."""
    whole = meant(read(name, answer))
    for length in range(len(answer)):
        part = answer[:length]
        out, calls_made = deltas(BY_NAME[name], [part])
        once = joined(out)
        said = [each for each in once if isinstance(each, str)]
        calls = meant(tuple(each for each in once if complete(each)))
        kept = [each for each in calls if isinstance(each, tuple)]
        assert kept == [each for each in whole if isinstance(each, tuple)][: len(kept)]
        if not kept:
            assert "".join(said) in (part, part.rstrip()) or part.isspace()
        assert calls_made == len(kept)


def complete(each: Any) -> bool:
    try:
        return isinstance(each, str) or isinstance(json.loads(each[1]), dict)
    except ValueError:
        return False


@settings(max_examples=60)
@given(
    st.sampled_from(EACH),
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from('{}[]"\\,:<>|= \nax1(')), max_size=3),
    st.lists(st.integers(1, 40), max_size=30),
)
def test_mutated_answers_are_the_same_however_they_are_cut(
    case: tuple[str, str], changes: list[tuple[int, str]], sizes: list[int]
) -> None:
    """Nothing raises, and nothing is lost but white space and marks beside calls."""
    name, text = case
    for at, character in changes:
        at %= len(text)
        text = text[:at] + character + text[at + 1 :]
    pieces, left = [], text
    for size in sizes:
        pieces.append(left[:size])
        left = left[size:]
    once, calls = deltas(BY_NAME[name], [text])
    again, same = deltas(BY_NAME[name], [*pieces, left])
    assert joined(once) == joined(again) == joined(deltas(BY_NAME[name], text)[0])
    assert calls == same
    if not any(isinstance(delta, ToolCallBegun) for delta in once):
        assert "".join(each for each in joined(once) if isinstance(each, str)) == text


@pytest.mark.parametrize("name", BY_NAME)
def test_text_without_calls_is_text(name: str) -> None:
    text = ' {"a": 1} [b] <c> if a < b:\n\n  `x` <tool and [TOOL or <| or functions \n'
    for size in SIZES:
        assert read(name, text, size) == (text,)


@pytest.mark.parametrize(
    "broken",
    [
        '<tool_call>{"name": "get_weather", "arguments": {"city": 1,}}</tool_call>',
        '<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "get_weather", "arguments": "x"}</tool_call>',
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "clock", "name": "clock"}</tool_call>',
        "<tool_call>{'name': 'clock'}</tool_call>",
        '<tool_call>{"name": "clock", "arguments": {"a": 01}}</tool_call>',
        '<tool_call>{"name": "clock", "arguments": {"a": "\\x41"}}</tool_call>',
        '<tool_call>{"name": "clock", "arguments": {"a": "\\ud800"}}</tool_call>',
        '<tool_call>{"name": "clock", "arguments": {"a": ' + "[" * 100 + "</tool_call>",
        "<tool_call>clock()</tool_call>",
        "<tool_call></tool_call>",
    ],
)
def test_what_is_no_call_is_text_and_the_next_call_is_one(broken: str) -> None:
    good = f"<tool_call>{OTHER}</tool_call>"
    for size in SIZES:
        read_all, calls = deltas(GENERIC, cut(f"{broken}\n{good}", size))
        *said, last = [each for each in joined(read_all) if isinstance(each, str) or complete(each)]
        assert "".join(each for each in said if isinstance(each, str)) == broken
        assert last == ("clock", "{}") and calls == 1


def test_control_characters_in_a_text_are_escaped() -> None:
    (call,) = read("hermes", '<tool_call>{"name": "clock", "arguments": {"a": "1\n\t2"}}', 1)
    assert call == ("clock", '{"a": "1\\n\\t2"}')


def test_a_second_call_that_may_not_be_is_left_out() -> None:
    for name, answer in EACH:
        for size in (1, 10**6):
            out, calls = deltas(BY_NAME[name], cut(answer, size), parallel=False)
            read_ = [each for each in meant(joined(out)) if isinstance(each, tuple)]
            assert (read_, calls) == ([WEATHER], 1), name


def test_ids() -> None:
    """H5.13: ids are the dialect's own, but for families whose templates have a form of ids."""
    for name, answer in EACH:
        out, _ = deltas(BY_NAME[name], [answer], prefix="toolu_")
        first, second = (each.id for each in out if isinstance(each, ToolCallBegun))
        assert first != second
        if name == "kimi":
            assert (first, second) == ("functions.get_weather:0", "functions.clock:1")
        elif "CALL_ID" in answer:
            assert (first, second) == ("abcdefghi", "bcdefghij")
        elif name.startswith("mistral"):
            assert len(first) == 9 and first.isalnum()
        else:
            assert first.startswith("toolu_") and len(first) == 30
        none, _ = deltas(BY_NAME[name], [answer], prefix="")
        assert {each.id for each in none if isinstance(each, ToolCallBegun)} == {""}


def test_marks_that_are_special_tokens_are_these_alone() -> None:
    specials = Specials({1: "[TOOL_CALLS]", 2: "[ARGS]"}, BY_NAME["mistral"].marks)
    format = BY_NAME["mistral"].encoded(specials)
    spelled = ANSWERS["mistral-args"][0]
    assert joined(deltas(format, [spelled])[0]) == (spelled,)
    assert meant(joined(deltas(format, [specials.encode(spelled)])[0])) == [
        "I look.",
        WEATHER,
        CLOCK,
    ]
    assert GENERIC.encoded(Specials({})) is GENERIC


@pytest.mark.parametrize(
    ("template", "special", "name"),
    [
        ("{{ messages }} <tool_call>", (), "hermes"),
        ("{{ tools }} <tool_call>", ("<|python_tag|>",), "hermes"),
        ("{{ tools }}", ("<|python_tag|>",), "llama"),
        ("{{ tools }} [TOOL_CALLS]", (), "mistral"),
        ("{{ messages }} ", ("[TOOL_CALLS]",), "hermes"),  # prompted
        ("{{ tools }} <tool_call> <arg_key>", (), "glm"),
        ("{{ tools }} <function=f> <parameter=p>", (), "qwen3-coder"),
        ("{{ tools }} <function=f>", (), "functionary"),
        ("{{ tools }} <|tool_call|> <tool_call>", (), "granite"),
        ("{{ tools }} in a single JSON array", (), "xlam"),
        ("{{ tools }}", ("<|tool|>",), "phi4"),
        ("{{ tools }}", (), "hermes"),
        ("", (), "hermes"),
    ],
)
def test_a_format_is_chosen_by_template_and_tokens(
    template: str, special: tuple[str, ...], name: str
) -> None:
    assert choose_tools(template, special).name == name


def test_every_format_has_a_name_of_its_own_but_for_the_generic_one() -> None:
    names = [format.name for format in FORMATS]
    assert [each for each in names if names.count(each) > 1] == ["hermes", "hermes"]
