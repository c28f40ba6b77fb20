"""Responses from the whole server: scripted models that think and call, Codex, a restart."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.http.running import Server, eventually, serving
from tests.http.scripted_checkpoint import write
from tests.translate.responses_stream import checked
from tests.translate.scripted import Scripted

# What Codex 0.171 sends, its long texts cut short, and what it adds once its call was made.
CODEX = json.loads((Path(__file__).parent / "codex_requests.json").read_text())
REQUEST: dict[str, Any] = CODEX["request"]
TURNS = (
    "{% for t in tools or [] %}<tool_call>{{ t.function.name }}{% endfor %}"
    "{% for m in messages %}<|start|>{{ m.role }} {{ m.content }}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}{% endfor %}"
    "<|end|>{% endfor %}<|start|>assistant"
)
COMMAND = {"cmd": "printf 'hi\\n' > \"a.txt\""}
PATCH = '*** Begin Patch\n*** Add File: a.txt\n+Zü"r\n*** End Patch\n'


def call(name: str, **arguments: Any) -> str:
    written = json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>{{"name": "{name}", "arguments": {written}}}</tool_call>'


LARK = r"""
start: "*** \"" NUMBER "\"" LF END
NUMBER: /[0-9]{2}/
END: "."
%import common.LF
"""
ANSWERS = {
    "codex": f"<think>I write it.</think>{call('exec_command', **COMMAND)}<|end|>",
    "patch": f"I patch.\n{call('apply_patch', input=PATCH)}<|end|>",
    "agents": f"{call('multi_agent_v1__close_agent', target='a')}<|end|>",
    "plain": 'The answer: {"city": "Rome"}<|end|>',
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("responses")
    arguments = ["--threads", "1"]
    for name, answer in ANSWERS.items():
        model = Scripted(TURNS, answer, ["<|start|>", "<|end|>"])
        path = write(folder / name, model.tokenizer.encoding, model.script(8), TURNS, "<|end|>")
        arguments += ["--model", f"{name}={path}"]
    with serving(*arguments) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as each:
        yield each


def streamed(server: Server, body: Any) -> dict[str, Any]:
    """Return the response that a stream ends in, all of whose events are legal."""
    told = [*server.stream("/v1/responses", body)]
    assert all(name == data["type"] for name, data in told)
    return checked([data for _, data in told])


def test_codex_is_answered(server: Server) -> None:
    """Its first request, whose call it makes, and the second, with the result of that."""
    first: dict[str, Any] = REQUEST | {"model": "codex"}
    second: dict[str, Any] = first | {"input": [*REQUEST["input"], *CODEX["then"]]}
    final = streamed(server, first)
    thought, made = final["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "I write it."}]
    assert thought["encrypted_content"]
    assert (made["type"], made["name"], made["status"]) == (
        "function_call",
        "exec_command",
        "completed",
    )
    assert json.loads(made["arguments"]) == COMMAND
    assert final["store"] is False and final["tools"] == first["tools"]
    history = [item for item in second["input"] if item["type"] == "function_call"]
    assert [item["name"] for item in history] == ["exec_command"]
    again = streamed(server, second)
    assert again["usage"]["input_tokens"] > final["usage"]["input_tokens"]
    assert again["usage"]["input_tokens_details"]["cached_tokens"] > 0


def test_a_sealed_thought_reaches_the_template_again(server: Server, client: Any) -> None:
    about: dict[str, Any] = {"model": "codex", "tools": REQUEST["tools"], "temperature": 0}
    first = client.responses.create(
        input="Go.", include=["reasoning.encrypted_content"], store=False, **about
    )
    thought, made = first.output
    back = thought.to_dict() | {"content": None, "summary": []}
    output = {"type": "function_call_output", "call_id": made.call_id, "output": "ok"}
    counts = []
    for reasoning in ([back], []):
        items = [{"role": "user", "content": "Go."}, *reasoning, made.to_dict(), output]
        counts.append(client.responses.input_tokens.count(input=items, model="codex").input_tokens)
    assert counts[0] > counts[1]


def test_a_custom_tool_gets_its_text_as_it_is(server: Server, client: Any) -> None:
    tool = {"type": "custom", "name": "apply_patch", "description": "Patches files."}
    about: dict[str, Any] = {"model": "patch", "tools": [tool], "temperature": 0}
    final = streamed(server, about | {"input": "Patch."})
    text, made = final["output"]
    assert text["content"][0]["text"] == "I patch." and made["input"] == PATCH
    with client.responses.stream(input="Patch.", **about) as stream:
        told = [e.delta for e in stream if e.type == "response.custom_tool_call_input.delta"]
        assert len(told) > 3 and "".join(told) == PATCH
        made = stream.get_final_response().output[1]
    assert (made.type, made.name, made.input) == ("custom_tool_call", "apply_patch", PATCH)
    output: Any = {"type": "custom_tool_call_output", "call_id": made.call_id, "output": "Done."}
    again = client.responses.create(input=[made.to_dict(), output], **about)
    assert again.status == "completed"


@pytest.mark.parametrize(
    ("syntax", "definition"),
    [
        ("lark", LARK),
        ("regex", r'\*\*\* "[0-9]{2}"\n\.'),
    ],
)
def test_a_custom_tool_s_text_keeps_to_its_grammar(
    client: Any, syntax: str, definition: str
) -> None:
    """The scripted model would say something else."""
    format = {"type": "grammar", "syntax": syntax, "definition": definition}
    made = client.responses.create(
        model="plain",
        input="x",
        tools=[{"type": "custom", "name": "number", "format": format}],
        tool_choice={"type": "custom", "name": "number"},
        parallel_tool_calls=False,
        temperature=0,
        max_output_tokens=600,
    )
    (call,) = made.output
    assert (call.type, made.status) == ("custom_tool_call", "completed")
    assert re.fullmatch(r'\*\*\* "[0-9]{2}"\n\.', call.input)


def test_a_grammar_that_cannot_be_had_is_a_400(client: Any) -> None:
    for definition in ("start: missing", "start: /(?=a)/", "start: ("):
        format = {"type": "grammar", "syntax": "lark", "definition": definition}
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(
                model="plain",
                input="x",
                tools=[{"type": "custom", "name": "number", "format": format}],
                tool_choice="required",
            )
        assert caught.value.param in ("tools", "tool_choice")


def test_a_tool_of_a_namespace_is_called_by_both_names(server: Server) -> None:
    final = streamed(server, REQUEST | {"model": "agents"})
    (made,) = final["output"]
    assert (made["namespace"], made["name"]) == ("multi_agent_v1", "close_agent")
    items = [{"role": "user", "content": "x"}, made]
    items.append({"type": "function_call_output", "call_id": made["call_id"], "output": "ok"})
    streamed(server, REQUEST | {"model": "agents", "input": items})


class City(BaseModel):
    city: Literal["Rome"]


def test_a_form_is_kept_to(client: Any) -> None:
    parsed = client.responses.parse(
        model="plain", input="x", text_format=City, max_output_tokens=400, temperature=0
    )
    assert parsed.output_parsed == City(city="Rome")
    whole = client.responses.create(model="plain", input="x", temperature=0)
    assert whole.output_text == 'The answer: {"city": "Rome"}'


def test_a_call_that_must_be_made_is_made(client: Any) -> None:
    clock: Any = {
        "type": "function",
        "name": "clock",
        "parameters": {"additionalProperties": False},
    }
    made = client.responses.create(
        model="plain",
        input="x",
        tools=[clock, {"type": "web_search"}],
        tool_choice={"type": "function", "name": "clock"},
        parallel_tool_calls=False,
        temperature=0,
    )
    (call,) = made.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "clock", {})


def test_logprobs_and_lengths(client: Any) -> None:
    about: dict[str, Any] = {"model": "plain", "input": "x", "temperature": 0}
    made = client.responses.create(
        include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=3, **about
    )
    assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    part = made.output[0].content[0]
    assert len(part.logprobs) == 3 and len(part.logprobs[0].top_logprobs) == 2
    assert "".join(each.token for each in part.logprobs) == part.text
    assert made.usage.output_tokens == 3


@pytest.mark.long  # two starts; test_store.py does the same to a store alone
def test_a_restart_loses_nothing_but_what_was_being_made(tmp_path: Path) -> None:
    store = str(tmp_path / "responses.db")
    with serving("--responses-store", store) as first:
        with openai.OpenAI(base_url=f"{first.url}/v1", api_key="x", max_retries=0) as each:
            made = each.responses.create(model="bessemer-guide", input="Hi", max_output_tokens=4)
            slow = each.responses.create(
                model="bessemer-guide",
                input="Hi",
                background=True,
                max_output_tokens=2000,
                extra_body={"ignore_eos": True},
            )
            assert eventually(lambda: each.responses.retrieve(slow.id).status == "in_progress")
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    with (
        serving("--responses-store", store) as second,
        openai.OpenAI(base_url=f"{second.url}/v1", api_key="x", max_retries=0) as each,
    ):
        assert each.responses.retrieve(made.id).output_text == made.output_text
        again = each.responses.create(
            model="bessemer-guide", input="x", previous_response_id=made.id, max_output_tokens=2
        )
        assert again.usage and made.usage
        assert again.usage.input_tokens > made.usage.input_tokens
        broken = each.responses.retrieve(slow.id)
        assert broken.error and "server ended" in broken.error.message
        assert broken.status == "failed"
