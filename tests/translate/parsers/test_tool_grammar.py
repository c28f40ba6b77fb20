"""Grammars of calls: what llguidance writes by them is read as calls that keep to their schemas."""

import json
import random
from typing import Any

import jsonschema
import llguidance
import pytest

from bessemer.engine.grammar.bounds import embedded
from bessemer.engine.grammar.definition import grammar_of
from bessemer.engine.request import Channels, Constraint, Refusal
from bessemer.engine.text.specials import NONE
from bessemer.translate.chat import Chat, ResponseFormat, Tool, ToolCall, ToolChoice
from bessemer.translate.parsers.calls import TaggedCall
from bessemer.translate.parsers.channels import FORMAT as CHANNELS
from bessemer.translate.parsers.parser import AnswerToken, PlainParser
from bessemer.translate.parsers.tool_formats import FORMATS, ToolFormat
from bessemer.translate.parsers.tool_grammar import tool_constraint
from bessemer.translate.parsers.tools import CallReader, ToolParser
from tests.engine.grammar.spelling import SPECIALS, accepts, ids, vocabulary
from tests.translate.called import BY_NAME, joined, meant

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 8},
        "unit": {"enum": ["celsius", "kelvin"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "at": {"$ref": "#/$defs/place"},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}},
}
TOOLS = (
    Tool("get_weather", None, WEATHER),
    Tool("clock", None, {"properties": {}, "additionalProperties": False}),
)
EACH = pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
CLOSERS = frozenset(b'"}])>\n/')


def chat(mode: str = "required", *names: str, parallel: bool = True, form: Any = None) -> Chat:
    choice = ToolChoice(mode, names, parallel)  # type: ignore[arg-type]
    return Chat("m", (), tools=TOOLS, tool_choice=choice, response_format=form)


def grammar(constraint: Constraint) -> str:
    marks = Channels() if constraint.heads else None
    return grammar_of(constraint, marks, SPECIALS, lambda _: False)


def held(asked: Chat, format: ToolFormat, tools: tuple[Tool, ...] = TOOLS) -> str:
    offered = tuple(
        t for t in tools if not asked.tool_choice.names or t.name in asked.tool_choice.names
    )
    constraint = tool_constraint(asked, offered, format, SPECIALS)
    assert constraint is not None
    return grammar(constraint)


def write(lark: str, seed: int, close: str) -> str:
    """Let llguidance write, a byte at a time, and close what it can rather soon."""
    matcher = llguidance.LLMatcher(vocabulary(), lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    names, draw, out = {v: k for k, v in SPECIALS.items()}, random.Random(seed), list[bytes]()
    closing = [*close.encode()]
    for _ in range(3000):
        if matcher.is_accepting() and (draw.random() < 0.3 or matcher.is_stopped()):
            return b"".join(out).decode()
        if closing and draw.random() < 0.3 and matcher.validate_tokens(closing) == len(closing):
            assert matcher.consume_tokens(closing)
            out.append(close.encode())
            continue
        mask = matcher.compute_bitmask()
        allowed = [i for i in range(len(mask) * 8) if mask[i // 8] >> (i % 8) & 1]
        allowed = [i for i in allowed if i in names or 32 <= i < 127 or i == 10] or allowed
        closers = [each for each in allowed if each in CLOSERS]
        token = draw.choice(closers if closers and draw.random() < 0.6 else allowed)
        assert matcher.consume_token(token)
        out.append(names[token].encode() if token in names else bytes([token]))
    raise AssertionError(f"it does not end: {b''.join(out)[:200]!r}")


def closing(format: ToolFormat) -> str:
    """Return the mark after a text between tags or marks, which no draw would hit upon."""
    tagged = [each for each in format.syntaxes if isinstance(each, TaggedCall)]
    if not tagged:
        return format.shape.mark
    return ("\n" if tagged[0].lines else "") + tagged[0].value_end


def read(format: ToolFormat, text: str) -> list[Any]:
    inner = (
        CHANNELS.calling(0, Channels(), NONE)
        if format.heads and CHANNELS.calling
        else PlainParser(0)
    )
    parser = ToolParser(inner, CallReader(0, format, TOOLS))
    out = [delta for character in text for delta in parser.feed(AnswerToken(None, character))]
    return meant(joined([*out, *parser.close()]))


@EACH
def test_what_must_call_calls_and_keeps_to_the_schema(format: ToolFormat) -> None:
    lark = held(chat(), format)
    for seed in range(5):
        calls = read(format, write(lark, seed, closing(format)))
        assert calls and all(isinstance(call, tuple) for call in calls)
        for name, arguments in calls:
            schema = next(tool.parameters for tool in TOOLS if tool.name == name)
            jsonschema.validate(arguments, schema or {})


@EACH
def test_one_call_by_name(format: ToolFormat) -> None:
    lark = held(chat("required", "clock", parallel=False), format)
    for seed in range(2):
        assert read(format, write(lark, seed, "")) == [("clock", {})]


@EACH
def test_a_call_in_the_shape_that_is_prompted_is_one_of_the_grammar(format: ToolFormat) -> None:
    if "TAGS" in format.shape.each:
        return
    call = ToolCall("", "get_weather", '{"city": "Rome", "days": 3}')
    text = format.shape.call(call)
    assert accepts(held(chat(), format), text) or "PARAMETERS" in format.shape.each
    assert read(format, text) == [("get_weather", {"city": "Rome", "days": 3})]


@EACH
def test_strict_calls_that_may_be_made(format: ToolFormat) -> None:
    """Text is free, and what has begun as a call keeps to its schema."""
    free_city = WEATHER | {"properties": WEATHER["properties"] | {"city": {"type": "string"}}}
    tools = Tool("get_weather", None, free_city, True), Tool("clock", None, TOOLS[1].parameters)
    lark = held(chat("auto"), format, tools)
    free = "<|channel|>final<|message|>Hello." if format.heads else "Hello."
    assert accepts(lark, free)
    matcher = llguidance.LLMatcher(vocabulary(), lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    if not format.heads:
        wrong = f"{format.open[0]}?" if not format.bare else "{?"
        assert not accepts(lark, wrong)
    if not (format.heads or format.bare):
        call = write(held(chat("required", "clock", parallel=False), format), 1, "")
        assert accepts(lark, f"I look.\n{call}And again:\n{call}")


@EACH
@pytest.mark.parametrize("strict", [False, True])
def test_one_call_where_one_may_be_made(format: ToolFormat, strict: bool) -> None:
    """Text is free, and the answer is over after the call, whether its tool is strict or not."""
    tools = tuple(Tool(t.name, None, t.parameters, strict) for t in TOOLS if t.name == "clock")
    lark = held(chat("auto", parallel=False), format, tools)
    call = write(held(chat("required", "clock", parallel=False), format), 1, "")
    before = "" if format.bare or format.heads else "I look.\n"
    free = "<|channel|>final<|message|>Hello." if format.heads else "Hello."
    assert accepts(lark, before + call) and accepts(lark, free)
    for more in (call, "\n" + call, "Done."):
        assert not accepts(lark, before + call + more)


@EACH
@pytest.mark.parametrize("parallel", [False, True])
def test_strict_calls_however_they_begin(format: ToolFormat, parallel: bool) -> None:
    """Each mark that a call may begin with begins one that is held to, or cannot be written."""
    tools = tuple(Tool(t.name, None, t.parameters, strict=True) for t in TOOLS if "k" in t.name)
    if format.bare or format.heads:
        return
    lark = held(chat("auto", parallel=parallel), format, tools)
    call = format.shape.before + format.shape.each
    for mark in format.open:
        assert not accepts(lark, f"Hm. {mark}"), "no call that breaks off"
        matcher = llguidance.LLMatcher(vocabulary(), lark, log_level=0)
        written = matcher.try_consume_tokens([*ids(f"Hm. {mark}")])
        assert (written == len([*ids(f"Hm. {mark}")])) == (mark in call)
        assert not accepts(lark, f"Hm. {mark}?")
    shape = format.shape
    whole = write(held(chat("required", "clock", parallel=False), format), 1, "")
    if shape.before and any(mark in shape.each for mark in format.open):
        alone = whole.removeprefix(shape.before).removesuffix(shape.after)
        assert accepts(lark, f"Hm. {alone}"), "a call without the section around it"


def test_what_is_not_strict_is_held_to_as_far_as_it_can_be() -> None:
    """A keyword that nobody can keep to is left out, and what is beside it stays."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "not": {"const": 3}}}}
    call = '<tool_call>\n{"name": "f", "arguments": {"n": %s}}\n</tool_call>'
    lark = held(chat(parallel=False), BY_NAME["hermes"], (Tool("f", None, schema),))
    assert accepts(lark, call % "3") and not accepts(lark, call % '"3"')
    strict = tool_constraint(chat(), (Tool("f", None, schema, True),), BY_NAME["hermes"], {})
    assert strict is not None
    matcher = llguidance.LLMatcher(vocabulary(), grammar(strict), log_level=0)
    assert "not" in matcher.get_error()


def test_each_schema_has_the_field_that_it_came_in() -> None:
    tools = tuple(
        Tool(t.name, None, t.parameters, field=f"tools[{at}].x") for at, t in enumerate(TOOLS)
    )
    form = ResponseFormat("json_object", "", field="f")
    for name, mode, fields in (
        ("hermes", "required", ["tools[0].x", "tools[1].x"]),
        ("lfm2", "required", ["tools[0].x"] * 4),
        ("hermes", "auto", ["f", "tools[0].x", "tools[1].x"]),
    ):
        asked = chat(mode, form=form)
        constraint = tool_constraint(asked, tools, BY_NAME[name], {})
        assert constraint and sorted(constraint.fields) == fields
        assert len(embedded(constraint.definition)) == len(fields)


def test_calls_or_an_answer_of_a_form() -> None:
    form = ResponseFormat("json_schema", '{"type":"object","properties":{"a":{"type":"integer"}}}')
    for name in ("hermes", "kimi", "mistral"):
        lark = held(chat("auto", form=form), BY_NAME[name])
        assert accepts(lark, '{"a": 1}')
        assert not accepts(lark, "Hello.") and not accepts(lark, '{"a": "b"}')
        assert accepts(lark, BY_NAME[name].shape.call(ToolCall("", "clock", "{}")))
    for name, other in (("hermes", ResponseFormat("regex", "a+")), ("llama", form)):
        with pytest.raises(Refusal) as caught:
            held(chat("auto", form=other), BY_NAME[name])
        assert caught.value.field == "response_format"


def test_nothing_is_held_to_where_nothing_is_asked() -> None:
    assert tool_constraint(chat("auto"), TOOLS, BY_NAME["hermes"], {}) is None
    assert tool_constraint(chat("auto"), (), BY_NAME["hermes"], {}) is None


def test_arguments_are_those_that_are_listed_unless_others_are_told_of() -> None:
    listed = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for more, others in (
        ({}, False),
        ({"required": ["a"]}, False),
        ({"additionalProperties": True}, True),
        ({"required": ["a", "b"]}, True),
        ({"allOf": [{"properties": {"b": {}}}]}, True),
        ({"properties": {}}, True),
    ):
        tools = (Tool("f", None, {**listed, **more}),)
        lark = held(chat(parallel=False), BY_NAME["hermes"], tools)
        call = '<tool_call>\n{"name": "f", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
        assert accepts(lark, call) is others
    odd = (Tool("f", None, {**listed, "required": [["a"]]}),)
    assert tool_constraint(chat(), odd, BY_NAME["hermes"], {}), "the worker says what is wrong"


def test_special_tokens_are_written_by_their_ids() -> None:
    constraint = tool_constraint(chat(), TOOLS, BY_NAME["mistral"], {"[TOOL_CALLS]": 7})
    assert constraint and "<[7]>" in constraint.definition
    assert json.dumps("[TOOL_CALLS]") not in constraint.definition


VALUES: dict[str, Any] = {
    "may be null": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
    "elsewhere": {"$ref": "#/$defs/place"},
    "mixed": {"enum": ["a", 1, None, True]},
    "choices": {"anyOf": [{"const": "a b"}, {"const": "5"}]},
    "or a text": {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"const": "auto"}]},
}
TAGGED = [format for format in FORMATS if any(isinstance(s, TaggedCall) for s in format.syntaxes)]


@pytest.mark.parametrize("format", TAGGED, ids=lambda format: format.name)
@pytest.mark.parametrize("value", VALUES)
def test_texts_between_tags_keep_to_their_choices(format: ToolFormat, value: str) -> None:
    defs = {"place": {"enum": ["here", "there"]}}
    schema = {"properties": {"v": VALUES[value]}, "required": ["v"], "$defs": defs}
    tools = (Tool("f", None, schema, True),)
    lark = held(chat(), format, tools)
    for seed in range(6):
        reader = CallReader(0, format, tools)
        calls = [*reader.feed(write(lark, seed, closing(format))), *reader.close()]
        for _, arguments in meant(joined(calls)):
            jsonschema.validate(arguments, schema)


@pytest.mark.parametrize("format", TAGGED, ids=lambda format: format.name)
def test_a_tool_that_lists_nothing_takes_parameters_of_any_name(format: ToolFormat) -> None:
    lark = held(chat(), format, (Tool("f", None, {"type": "object"}),))
    for name in ("v", "place_of_birth-1", "k" * 64):
        listed = {"properties": {name: {"type": "string"}}, "required": [name]}
        text = write(held(chat(), format, (Tool("f", None, listed),)), 1, closing(format))
        assert accepts(lark, text) and not accepts(lark, text.replace(name, f"{name} 1"))


@pytest.mark.parametrize("format", TAGGED, ids=lambda format: format.name)
def test_limits_of_texts_between_tags_are_refused_where_strict(format: ToolFormat) -> None:
    schema = {"properties": {"v": {"type": "string", "pattern": "^a$"}}}
    with pytest.raises(Refusal, match="pattern"):
        held(chat(), format, (Tool("f", None, schema, True),))
    assert held(chat(), format, (Tool("f", None, schema),))


def test_a_mark_of_two_special_tokens_begins_the_one_call_that_may_be_made() -> None:
    specials = {"<|action_start|>": SPECIALS["<|start|>"], "<|plugin|>": SPECIALS["<|call|>"]}
    tools = (Tool("clock", None, None, strict=True),)
    asked = Chat("m", (), tools=tools, tool_choice=ToolChoice(parallel=False))
    constraint = tool_constraint(asked, tools, BY_NAME["internlm"], specials)
    assert constraint
    lark, call = grammar(constraint), '{"name": "clock", "parameters": {}}<|action_end|>'
    assert accepts(lark, f"Hm.<|start|><|call|>{call}") and accepts(lark, "Hm.")
    assert not accepts(lark, f"Hm.<|start|><|call|>{call}.")
