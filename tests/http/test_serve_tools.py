"""Scripted models that call tools behind the whole server, read by the official packages."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import BadRequestError as AnthropicsBadRequest
from openai import BadRequestError

from tests.http.running import Server, serving
from tests.http.scripted_checkpoint import write
from tests.translate.scripted import Scripted

TURNS = (
    "{% for t in tools or [] %}<tool_call>{{ t | tojson }}{% endfor %}"
    "{% for m in messages %}<|start|>{{ m.role }} {{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}{% endfor %}"
    "<|end|>{% endfor %}<|start|>assistant"
)
ARGUMENTS = {"city": 'Zü"r', "days": 3}
WRITTEN = json.dumps(ARGUMENTS, ensure_ascii=False)
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {WRITTEN}}}\n</tool_call>'
ANSWERS = {
    "hermes": (TURNS, f"I look.\n{CALL}\n" + '<tool_call>{"name": "clock"}</tool_call><|end|>'),
    "broken": (TURNS, f"{CALL[:-20]}<|end|>"),
    "prompted": (
        "{% for m in messages %}<|start|>{{ m.content }}{% endfor %}",
        f"<think>Hm.</think>{CALL}<|end|>",
    ),
    "chosen": (  # of which nothing tells that it writes calls as Llama does
        "{% for m in messages %}<|start|>{{ m.content }}{% endfor %}",
        '{"name": "clock", "parameters": {"zone": 7}}<|end|>',
    ),
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
}
FUNCTION = {"name": "get_weather", "description": "Says it.", "parameters": SCHEMA}
# A script cannot go on from tokens that a grammar forces: here all arguments are forced.
ONLY = FUNCTION | {
    "parameters": {
        "type": "object",
        "properties": {name: {"const": value} for name, value in ARGUMENTS.items()},
        "required": [*ARGUMENTS],
    }
}
TOOLS: list[Any] = [
    {"type": "function", "function": FUNCTION},
    {"type": "function", "function": {"name": "clock"}},
]
HI: list[Any] = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tools")
    arguments = ["--threads", "1", "--tool-parser", "chosen=llama"]
    for name, (template, answer) in ANSWERS.items():
        model = Scripted(template, answer, ["<|start|>", "<|end|>"])
        path = write(folder / name, model.tokenizer.encoding, model.script(8), template, "<|end|>")
        arguments += ["--model", f"{name}={path}"]
    with serving(*arguments) as running:
        yield running


def test_openai_calls(client: Any) -> None:
    """H5.12, H5.13 and R4.5: calls whole and streamed, with ids, and their results back."""
    about: dict[str, Any] = {"model": "hermes", "messages": HI, "tools": TOOLS, "temperature": 0}
    completion = client.chat.completions.create(**about)
    choice = completion.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I look.")
    calls = choice.message.tool_calls or []
    told = [(c.function.name, c.function.arguments) for c in calls if c.type == "function"]
    assert told == [("get_weather", WRITTEN), ("clock", "{}")]
    assert len({call.id for call in calls}) == 2 and calls[0].id.startswith("call_")

    with client.chat.completions.stream(**about) as stream:
        events = [event.type for event in stream]
        streamed = stream.get_final_completion().choices[0]
    assert events.count("tool_calls.function.arguments.done") == 2
    assert events.count("tool_calls.function.arguments.delta") > 2
    assert streamed.finish_reason == "tool_calls" and streamed.message.content == "I look."
    same = streamed.message.tool_calls or []
    assert [(c.function.name, c.function.arguments) for c in same] == told

    results = [{"role": "tool", "tool_call_id": call.id, "content": "4"} for call in calls]
    messages = [*HI, choice.message.model_dump(exclude_none=True), *results]
    again = client.chat.completions.create(**about | {"messages": messages})
    assert again.usage and completion.usage
    assert again.usage.prompt_tokens > completion.usage.prompt_tokens


def test_openai_functions(client: Any) -> None:
    """Of functions one alone is called, which a grammar holds to."""
    about: dict[str, Any] = {
        "model": "hermes",
        "messages": HI,
        "functions": [ONLY],
        "temperature": 0,
    }
    choice = client.chat.completions.create(**about).choices[0]
    assert choice.finish_reason == "function_call" and choice.message.function_call
    written = choice.message.function_call.arguments
    assert json.loads(written) == ARGUMENTS
    chunks = [c.choices[0] for c in client.chat.completions.create(**about, stream=True)]
    pieces = [c.delta.function_call for c in chunks if c.delta.function_call]
    assert pieces[0].name == "get_weather"
    assert "".join(p.arguments or "" for p in pieces) == written
    assert chunks[-1].finish_reason == "function_call"


@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_call_is_text_and_its_end_has_a_reason(client: Any, stream: bool) -> None:
    for limit, reason in ((None, "stop"), (6, "length")):
        about: dict[str, Any] = {
            "model": "broken", "messages": HI, "tools": TOOLS, "max_tokens": limit,
        }  # fmt: skip
        if not stream:
            choice = client.chat.completions.create(**about).choices[0]
            text, calls, ended = (
                choice.message.content,
                choice.message.tool_calls,
                choice.finish_reason,
            )
            assert not calls
        else:
            chunks = [c.choices[0] for c in client.chat.completions.create(**about, stream=True)]
            text = "".join(c.delta.content or "" for c in chunks)
            ended = chunks[-1].finish_reason
        assert ended == reason
        assert text and CALL.startswith(text) and text.startswith("<tool_call>")


def test_no_calls_where_none_are_wanted(client: Any) -> None:
    about: dict[str, Any] = {"model": "hermes", "messages": HI}
    for more in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        choice = client.chat.completions.create(**about, **more).choices[0]
        assert choice.finish_reason == "stop" and not choice.message.tool_calls
        assert choice.message.content and CALL in choice.message.content
    once = {"tools": [{"type": "function", "function": ONLY}], "parallel_tool_calls": False}
    choice = client.chat.completions.create(**about, **once).choices[0]
    assert choice.finish_reason == "tool_calls" and len(choice.message.tool_calls or []) == 1


def anthropic_tools() -> list[Any]:
    return [
        {"name": "get_weather", "description": "Says it.", "input_schema": SCHEMA},
        {"name": "clock", "input_schema": {"type": "object", "properties": {}}},
    ]


def test_anthropic_calls(claude: Any) -> None:
    about: dict[str, Any] = {
        "model": "hermes", "messages": HI, "tools": anthropic_tools(), "max_tokens": 90,
    }  # fmt: skip
    message = claude.messages.create(**about)
    assert message.stop_reason == "tool_use"
    assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
    _, weather, clock = message.content
    assert weather.type == clock.type == "tool_use"
    assert (weather.name, weather.input) == ("get_weather", ARGUMENTS)
    assert (clock.name, clock.input) == ("clock", {})
    assert weather.id.startswith("toolu_") and weather.id != clock.id

    with claude.messages.stream(**about) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds.count("input_json") >= 3 and final.stop_reason == "tool_use"
    inputs = [(b.name, b.input) for b in final.content if b.type == "tool_use"]
    assert inputs == [("get_weather", ARGUMENTS), ("clock", {})]

    counted = claude.messages.count_tokens(
        model="hermes", messages=HI, tools=anthropic_tools()
    ).input_tokens
    bare = claude.messages.count_tokens(model="hermes", messages=HI).input_tokens
    assert (
        bare < counted == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    )

    result = {"type": "tool_result", "tool_use_id": weather.id, "is_error": True, "content": "no"}
    turns = [*HI, {"role": "assistant", "content": [b.model_dump() for b in message.content]}]
    again = claude.messages.create(
        **about | {"messages": [*turns, {"role": "user", "content": [result]}]}
    )
    assert again.content


def test_a_call_after_a_thought_by_a_template_that_knows_no_tools(claude: Any) -> None:
    message = claude.messages.create(
        model="prompted", messages=HI, tools=anthropic_tools(), max_tokens=90
    )
    assert [block.type for block in message.content] == ["thinking", "tool_use"]
    assert message.stop_reason == "tool_use"


def test_a_call_that_must_be_made_is_made(client: Any, claude: Any) -> None:
    """The scripted model would say something else; it thinks first, where it does."""
    clock: Any = {"name": "clock", "parameters": {"additionalProperties": False}}
    tools: list[Any] = [TOOLS[0], {"type": "function", "function": clock}]
    for model in ("hermes", "prompted"):
        choice = client.chat.completions.create(
            model=model,
            messages=HI,
            tools=tools,
            tool_choice={"type": "function", "function": {"name": "clock"}},
            parallel_tool_calls=False,
            temperature=0,
        ).choices[0]
        (call,) = choice.message.tool_calls or []
        assert call.type == "function" and choice.finish_reason == "tool_calls"
        assert (call.function.name, json.loads(call.function.arguments)) == ("clock", {})
        assert not choice.message.content
    message = claude.messages.create(
        model="prompted",
        messages=HI,
        max_tokens=200,
        extra_body={"temperature": 0},
        tools=[
            {"name": "clock", "input_schema": {"type": "object", "additionalProperties": False}}
        ],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    assert message.stop_reason == "tool_use" and message.content[-1].type == "tool_use"


def test_a_schema_that_cannot_be_kept_to_is_a_400_that_names_its_tool(
    client: Any, claude: Any
) -> None:
    odd: dict[str, Any] = {"type": "object", "properties": {"a": {"not": {"const": 1}}}}
    function: dict[str, Any] = {"name": "f", "strict": True, "parameters": odd}
    tools: list[Any] = [TOOLS[0], {"type": "function", "function": function}]
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="hermes", messages=HI, tools=tools)
    body: Any = caught.value.body
    assert body["param"] == "tools[1].function.parameters" and '"not"' in body["message"]
    function["strict"] = False
    about: dict[str, Any] = {"model": "hermes", "messages": HI, "tools": tools, "max_tokens": 9}
    reply = client.chat.completions.create(**about, tool_choice="required")
    assert reply.usage.completion_tokens == 9, "what is not strict is held to as far as can be"
    theirs: Any = [{"name": "f", "input_schema": odd, "strict": True}]
    with pytest.raises(AnthropicsBadRequest, match=r"tools\.0\.input_schema has keywords"):
        claude.messages.create(model="hermes", messages=HI, max_tokens=9, tools=theirs)


def test_one_call_that_may_be_made_is_all_that_is_written(client: Any) -> None:
    """Decoding itself ends there, though the script goes on with a second call."""
    function = {"type": "function", "function": ONLY}
    about: dict[str, Any] = {"model": "hermes", "messages": HI, "tools": [function]}
    one = client.chat.completions.create(**about, parallel_tool_calls=False, temperature=0)
    choice = one.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "I look."
    (call,) = choice.message.tool_calls
    assert json.loads(call.function.arguments) == ARGUMENTS


def test_the_format_that_a_user_names(client: Any) -> None:
    tools: Any = [{"type": "function", "function": {"name": "clock"}}]
    choice = client.chat.completions.create(model="chosen", messages=HI, tools=tools).choices[0]
    (call,) = choice.message.tool_calls
    assert json.loads(call.function.arguments) == {"zone": 7}


def test_a_call_that_a_model_got_wrong_may_come_back(client: Any) -> None:
    """Agents send again what was written; a template that takes objects gets one with the text."""
    for arguments in ('{"city": "Zü', "[1]", '"text"', "x"):
        call = {"id": "a", "type": "function"} | {
            "function": {"name": "get_weather", "arguments": arguments}
        }
        turns = [
            *HI,
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "no JSON"},
        ]
        for model in ("hermes", "prompted"):
            reply = client.chat.completions.create(
                model=model, messages=turns, tools=TOOLS, max_tokens=1
            )
            assert reply.usage.completion_tokens == 1
