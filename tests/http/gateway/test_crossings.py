"""Every client's dialect by way of every format of a provider, which is another of these servers.

What it says is known: what comes out is what asking it directly does.
"""

import io
import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any, get_args

import pytest

from bessemer.http.gateway.backend import RemoteBackend
from bessemer.http.gateway.client import HttpClient
from bessemer.http.gateway.provider import Provider
from bessemer.http.gateway.remote import Remote
from bessemer.http.local import Patience
from bessemer.translate.upstream.table import UPSTREAMS
from bessemer.translate.upstream.upstream import Format
from tests.http.gateway.fake import Asked, Wire, provider
from tests.http.running import events
from tests.http.toy import CALL, ToyBackend
from tests.http.toy_server import post, serving

FORMATS: tuple[Format, ...] = get_args(Format)
HI = [{"role": "user", "content": "Hi"}]
NAME = {"name": "add", "description": "Adds."}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"type": "function", "function": {**NAME, "parameters": SCHEMA}}
# Of each dialect: its path, a request, and one with a tool.
CLIENTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"messages": HI}, {"tools": [FUNCTION]}),
    "responses": (
        "/v1/responses",
        {"input": "Hi"},
        {"tools": [{"type": "function", "strict": False, **NAME, "parameters": SCHEMA}]},
    ),
    "anthropic": (
        "/v1/messages",
        {"messages": HI, "max_tokens": 9},
        {"tools": [{**NAME, "input_schema": SCHEMA}]},
    ),
    "ollama": ("/api/chat", {"messages": HI}, {"tools": [FUNCTION]}),
}


def crossing(port: int, format: Format, model: str, **settings: Any) -> RemoteBackend:
    upstream = UPSTREAMS[format]
    about = Provider(name="far", url=f"http://127.0.0.1:{port}", format=format, **settings)
    return RemoteBackend(model, model, Remote(about, upstream, HttpClient(about)), Patience())


@pytest.fixture(scope="module")
def far() -> Iterator[int]:
    with serving(ToyBackend("text"), ToyBackend("call", CALL)) as port:
        yield port


@pytest.fixture(scope="module", params=FORMATS)
def near(far: int, request: pytest.FixtureRequest) -> Iterator[int]:
    """A server whose models are the other's, asked in one format."""
    format: Format = request.param
    with serving(*(crossing(far, format, model) for model in ("text", "call"))) as port:
        yield port


def said(port: int, client: str, model: str, stream: bool) -> dict[str, Any]:
    """Return the text, thought and calls of an answer in a client's dialect."""
    path, body, tools = CLIENTS[client]
    whole = body | (tools if model == "call" else {}) | {"model": model, "stream": stream}
    status, _, answer = post(port, path, whole)
    assert status == 200, answer
    found = (STREAMED if stream else WHOLE)[client](answer)
    return {name: value for name, value in found.items() if value}


def _openai(answer: bytes) -> dict[str, Any]:
    choice = json.loads(answer)["choices"][0]
    return _message(choice["message"]) | {"end": choice["finish_reason"]}


def _message(message: Any) -> dict[str, Any]:
    calls = [each["function"] for each in message.get("tool_calls") or ()]
    named = [(each["name"], _object(each["arguments"])) for each in calls]
    thought = message.get("reasoning_content") or message.get("thinking")
    return {"text": message.get("content"), "thought": thought, "calls": named}


def _object(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def _openai_stream(answer: bytes) -> dict[str, Any]:
    *pieces, done = [data for _, data in events(io.BytesIO(answer))]
    assert done == "[DONE]"
    choices = [choice for piece in pieces for choice in piece["choices"]]
    deltas = [choice["delta"] for choice in choices]
    calls = [each["function"] for delta in deltas for each in delta.get("tool_calls") or ()]
    text = "".join(delta.get("content") or "" for delta in deltas)
    thought = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    names = [call["name"] for call in calls if call.get("name")]
    arguments = "".join(call.get("arguments") or "" for call in calls)
    named = [(names[0], json.loads(arguments))] if names else []
    ends = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    return {"text": text, "thought": thought, "calls": named, "end": ends[-1]}


def _responses(answer: bytes) -> dict[str, Any]:
    return _response(json.loads(answer))


def _response(body: Any) -> dict[str, Any]:
    text = [part["text"] for item in body["output"] for part in item.get("content") or ()
            if part["type"] == "output_text"]  # fmt: skip
    calls = [
        (item["name"], json.loads(item["arguments"]))
        for item in body["output"]
        if item["type"] == "function_call"
    ]
    return {"text": "".join(text), "calls": calls, "end": body["status"]}


def _responses_stream(answer: bytes) -> dict[str, Any]:
    *_, (name, last) = events(io.BytesIO(answer))
    assert name == "response.completed"
    return _response(last["response"])


def _anthropic(answer: bytes) -> dict[str, Any]:
    body = json.loads(answer)
    return _blocks(body["content"]) | {"end": body["stop_reason"]}


def _blocks(blocks: list[Any]) -> dict[str, Any]:
    def joined(kind: str) -> str:
        return "".join(each[kind] for each in blocks if each["type"] == kind)

    calls = [(each["name"], each["input"]) for each in blocks if each["type"] == "tool_use"]
    return {"text": joined("text"), "thought": joined("thinking"), "calls": calls}


def _anthropic_stream(answer: bytes) -> dict[str, Any]:
    blocks: list[Any] = []
    arguments, end, name = "", "", None
    for name, data in events(io.BytesIO(answer)):
        if name == "content_block_start":
            blocks.append(dict(data["content_block"]))
        elif name == "content_block_delta":
            kind = data["delta"]["type"].removesuffix("_delta")
            if kind == "input_json":
                arguments += data["delta"]["partial_json"]
            elif kind in ("text", "thinking"):
                blocks[-1][kind] = blocks[-1].get(kind, "") + data["delta"][kind]
        elif name == "message_delta":
            end = data["delta"]["stop_reason"]
    assert name == "message_stop"
    for each in blocks:
        if each["type"] == "tool_use":
            each["input"] = json.loads(arguments)
    return _blocks(blocks) | {"end": end}


def _ollama(answer: bytes) -> dict[str, Any]:
    body = json.loads(answer)
    return _message(body["message"]) | {"end": body["done_reason"]}


def _ollama_stream(answer: bytes) -> dict[str, Any]:
    lines = [json.loads(line) for line in answer.splitlines()]
    messages = [_message(line["message"]) for line in lines]
    return {
        "text": "".join(each["text"] or "" for each in messages),
        "thought": "".join(each["thought"] or "" for each in messages),
        "calls": [call for each in messages for call in each["calls"]],
        "end": lines[-1]["done_reason"],
    }


WHOLE: dict[str, Any] = {
    "openai": _openai,
    "responses": _responses,
    "anthropic": _anthropic,
    "ollama": _ollama,
}
STREAMED: dict[str, Any] = {
    "openai": _openai_stream,
    "responses": _responses_stream,
    "anthropic": _anthropic_stream,
    "ollama": _ollama_stream,
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["text", "call"])
@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_is_what_asking_directly_is(
    far: int, near: int, client: str, model: str, stream: bool
) -> None:
    there, here = (said(port, client, model, stream) for port in (far, near))
    assert here == there
    assert here.get("text") == "Hello there" or here["calls"] == [("add", {"a": 1})]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("client", CLIENTS)
def test_an_error_keeps_its_status_in_the_client_s_dialect(client: str, format: Format) -> None:
    bodies: dict[Format, Any] = {
        "openai": {
            "error": {"message": "Slowly, please.", "type": "x", "param": None, "code": None}
        },
        "anthropic": {"type": "error", "error": {"type": "x", "message": "Slowly, please."}},
        "ollama": {"error": "Slowly, please."},
    }
    bodies["responses"] = bodies["openai"]

    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(json.dumps(bodies[format]).encode(), "429 Too Many", "retry-after: 3")

    path, body, _ = CLIENTS[client]
    with provider(script) as fake, serving(crossing(fake.port, format, "m")) as port:
        status, headers, answer = post(port, path, body | {"model": "m"})
    error = json.loads(answer)["error"]
    message = error if isinstance(error, str) else error["message"]
    assert (status, headers["retry-after"], message) == (429, "3", "Slowly, please.")


SECRETS = "sk-provider-5d1", "sk-client-77c", "sk-server-a0e"


@pytest.mark.parametrize("format", FORMATS)
def test_no_key_is_ever_written(format: Format) -> None:
    """Neither in answers nor in the log, whatever goes wrong where a provider repeats all."""
    written, turns = io.BytesIO(), iter(range(1000))

    def script(asked: Asked, wire: Wire) -> None:
        head = " ".join(asked.lines)
        sent = json.dumps({"error": {"message": head, "type": "x"}}).encode()
        match next(turns) % 4:
            case 0:
                wire.answer(sent, "401 Unauthorized")
            case 1:
                wire.answer(head.encode(), "500 Oh")
            case 2:
                wire.send(f"{head}\r\n\r\n".encode())
                wire.close()
            case 3:
                wire.begin()
                wire.chunk(b"data: " + sent + b"\n\n")
                wire.close()

    own, theirs, ours = SECRETS
    answers = b""
    with (
        provider(script) as fake,
        serving(
            crossing(fake.port, format, "m", api_key=own), keys=[ours], written=written
        ) as port,
    ):
        for path, body, _ in CLIENTS.values():
            for stream in (False, True):
                for _ in range(4):
                    keys = {"authorization": f"Bearer {ours}", "x-api-key": theirs}
                    about = {"model": "m", "stream": stream}
                    _, headers, answer = post(port, path, body | about, keys)
                    answers += answer + str(headers).encode()
                    assert own.encode() not in answer, (path, stream, answer)
        post(port, "/v1/chat/completions", {"model": "m", "messages": HI}, {"x-api-key": theirs})
        assert own in "".join(line for each in fake.asked for line in each.lines)
    assert written.getvalue().count(b"POST") > 32
    for secret in SECRETS:
        assert secret.encode() not in answers + written.getvalue()


def test_a_client_that_sent_no_key_of_a_provider_is_answered_its_error() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b'{"error": {"message": "No key."}}', "401 Unauthorized")

    with (
        provider(script) as fake,
        serving(crossing(fake.port, "openai", "m")) as port,
        closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection,
    ):
        connection.request(
            "POST", "/v1/messages", json.dumps(CLIENTS["anthropic"][1] | {"model": "m"})
        )
        response = connection.getresponse()
        assert response.status == 401 and b"No key." in response.read()
        assert "authorization" not in fake.asked[0].headers
