"""Scripted models behind the whole server, asked in Ollama's dialect by its official package."""

import json
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from tests.http.running import Server, serving
from tests.http.scripted_checkpoint import write
from tests.http.test_serve_tools import ARGUMENTS, CALL, SCHEMA, TURNS
from tests.translate.scripted import Scripted

THINKS = "{% if enable_thinking is not false %}<think>{% endif %}"
FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
ANSWERS = {
    "caller": (TURNS, f"I look.\n{CALL}<|end|>"),
    "thinker:small": (TURNS + THINKS, "Hm, well.</think>Yes, of course.<|end|>"),
    "plain": (TURNS.partition("{% for m in")[1] + TURNS.partition("{% for m in")[2], "Ja.<|end|>"),
}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}]
HI: list[Any] = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ollama")
    arguments = ["--threads", "1"]
    for at, (name, (template, answer)) in enumerate(ANSWERS.items()):
        special = ["<|start|>", "<|end|>", *(FIM if name == "plain" else ())]
        model = Scripted(template, answer, special)
        about = (
            model.tokenizer.encoding,
            model.script(2 if name == "plain" else 8),
            template,
            "<|end|>",
        )
        arguments += ["--model", f"{name}={write(folder / str(at), *about)}"]
    with serving(*arguments) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as each:
        yield each


def test_a_chat_whole_and_streamed(client: ollama.Client) -> None:
    whole = client.chat("plain", HI, options={"temperature": 0.0})
    assert (whole.message.role, whole.message.content) == ("assistant", "Ja.")
    assert (whole.done, whole.done_reason, whole.model) == (True, "stop", "plain")
    assert whole.prompt_eval_count and whole.eval_count == 3  # with the end
    assert whole.total_duration and whole.prompt_eval_duration and whole.created_at
    assert whole.total_duration >= (whole.prompt_eval_duration or 0) + (whole.eval_duration or 0)

    pieces = list(client.chat("plain", HI, stream=True, options={"num_predict": 1}))
    assert "".join(piece.message.content or "" for piece in pieces) == "Ja"
    assert [piece.done for piece in pieces[:-1]] == [False] * (len(pieces) - 1)
    last = pieces[-1]
    assert (last.done, last.done_reason, last.eval_count) == (True, "length", 1)
    assert pieces[0].total_duration is None and last.total_duration


def test_calls_and_their_results(client: ollama.Client) -> None:
    about: dict[str, Any] = {"model": "caller", "tools": TOOLS, "options": {"temperature": 0}}
    whole = client.chat(messages=HI, **about)
    (call,) = whole.message.tool_calls or [None]
    assert call is not None
    assert (call.function.name, call.function.arguments) == ("get_weather", ARGUMENTS)
    assert (whole.message.content, whole.done_reason) == ("I look.", "stop")

    pieces = list(client.chat(messages=HI, stream=True, **about))
    calls = [call for piece in pieces for call in piece.message.tool_calls or ()]
    assert calls == [call]
    assert "".join(piece.message.content or "" for piece in pieces) == "I look."

    result = {"role": "tool", "tool_name": "get_weather", "content": "Rain"}
    again = client.chat(messages=[*HI, whole.message, result], **about)
    assert (again.prompt_eval_count or 0) > (whole.prompt_eval_count or 0)


def test_thoughts_and_who_has_none(client: ollama.Client) -> None:
    whole = client.chat("thinker:small", HI, think=True)
    assert (whole.message.thinking, whole.message.content) == ("Hm, well.", "Yes, of course.")
    pieces = list(client.chat("thinker:small", HI, think="high", stream=True))
    assert "".join(piece.message.thinking or "" for piece in pieces) == "Hm, well."
    assert "".join(piece.message.content or "" for piece in pieces) == "Yes, of course."
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("plain", HI, think=True)
    assert caught.value.status_code == 400 and "does not support thinking" in caught.value.error
    assert client.chat("plain", HI, think=False).message.content == "Ja."


def test_a_prompt_with_what_was_said_before(client: ollama.Client) -> None:
    first = client.generate("plain", "Hi", system="Be brief.")
    assert (first.response, first.done_reason) == ("Ja.", "stop")
    assert first.context and first.prompt_eval_count
    assert len(first.context) == first.prompt_eval_count + 3
    second = client.generate("plain", "Hi", context=first.context)
    bare = client.generate("plain", "Hi")
    assert second.prompt_eval_count == len(first.context) + (bare.prompt_eval_count or 0)
    assert second.context and second.context[: len(first.context)] == first.context
    *pieces, last = client.generate("plain", "Hi", stream=True)
    assert "".join(piece.response or "" for piece in pieces) == "Ja."
    assert last.context == bare.context and pieces[0].context is None
    raw = client.generate("plain", "Hi", raw=True)
    assert raw.response == "Ja." and raw.context is None
    assert (raw.prompt_eval_count or 0) < (bare.prompt_eval_count or 0)


def test_filling_in_and_who_cannot(client: ollama.Client) -> None:
    filled = client.generate("plain", "def f(", suffix="return x")
    assert filled.response == "Ja."
    bare = client.generate("plain", "def f(return x", raw=True)
    assert filled.prompt_eval_count == (bare.prompt_eval_count or 0) + len(FIM)
    with pytest.raises(ollama.ResponseError, match="marks to fill in"):
        client.generate("caller", "def f(", suffix="return x")


def test_a_form_and_log_probabilities(client: ollama.Client) -> None:
    for form in ("json", {"type": "object", "properties": {}, "additionalProperties": False}):
        answer = client.chat("plain", HI, format=form, options={"num_predict": 60, "seed": 1})
        assert answer.done_reason in ("stop", "length") and answer.message.content
        assert answer.message.content.lstrip().startswith("{")
        if answer.done_reason == "stop":
            json.loads(answer.message.content)
    whole = client.chat("plain", HI, logprobs=True, top_logprobs=2)
    tokens = whole.logprobs or ()
    assert "".join(each.token for each in tokens) == "Ja."
    assert all(len(each.top_logprobs or ()) == 2 for each in tokens)
    pieces = list(client.generate("plain", "Hi", logprobs=True, stream=True))
    assert sum(len(piece.logprobs or ()) for piece in pieces) == len(tokens)


def test_a_model_is_loaded_and_stays_so(client: ollama.Client) -> None:
    assert client.chat("plain").done_reason == client.generate("plain").done_reason == "load"
    assert client.chat("plain", HI, keep_alive="5m").done_reason == "stop"
    assert client.chat("plain", HI, keep_alive=0).done_reason == "stop"
    with pytest.raises(ollama.ResponseError, match="keep_alive"):
        client.generate("plain", keep_alive=0)
    running = {model.model: model for model in client.ps().models}
    assert set(running) == {"caller:latest", "thinker:small", "plain:latest"}
    plain = running["plain:latest"]
    assert plain.size and plain.context_length == 4096 and plain.expires_at


def test_what_there_is_and_what_it_can_do(server: Server, client: ollama.Client) -> None:
    names = [model.model for model in client.list().models]
    assert names == ["caller:latest", "thinker:small", "plain:latest"]
    able = {name: client.show(name or "").capabilities for name in names}
    assert able == {
        "caller:latest": ["completion", "tools", "embedding"],
        "thinker:small": ["completion", "tools", "thinking", "embedding"],
        "plain:latest": ["completion", "insert", "embedding"],
    }
    shown = client.show("thinker")  # the only one of that name
    info = shown.modelinfo or {}
    assert info["general.architecture"] == "llama" and info["llama.context_length"] == 4096
    assert info["general.parameter_count"] > 1000 and info["llama.block_count"] == 1
    assert shown.details and shown.details.format == "safetensors"
    assert shown.details.quantization_level == "F32" and shown.template == TURNS + THINKS
    status, body, _ = server.ask("GET", "/api/version")
    assert status == 200 and [*map(int, body["version"].split("."))] >= [0, 6, 4]
    assert server.ask("HEAD", "/")[0] == server.ask("HEAD", "/api/version")[0] == 200


def test_errors_are_one_text(server: Server, client: ollama.Client) -> None:
    for ask in (client.chat, client.generate, client.show):
        with pytest.raises(ollama.ResponseError) as caught:
            ask("absent")
        assert caught.value.status_code == 404 and "absent" in caught.value.error
    for path, body in (
        ("/api/chat", {"model": "plain", "messages": [{"role": "user", "images": ["x"]}]}),
        ("/api/chat", {"model": "plain", "messages": HI, "options": {"mirostat": 1}}),
        ("/api/generate", {"model": "plain", "prompt": "Hi", "template": "{{ .Prompt }}"}),
        ("/api/embed", {"model": "plain", "input": ["Hi", ""]}),
        ("/api/show", {}),
    ):
        status, error, _ = server.ask("POST", path, body)
        assert status == 400 and list(error) == ["error"] and isinstance(error["error"], str)
    status, error, _ = server.ask("POST", "/api/pull", {"model": "plain"})
    assert status == 404 and isinstance(error["error"], str)
