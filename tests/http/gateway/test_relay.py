"""Requests and answers that go through as they are, by the server's endpoints and real sockets."""

import gzip
import json
import threading
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import openai
import pytest
from anthropic import Anthropic, APIStatusError, RateLimitError

from bessemer.translate.upstream.upstream import Format
from tests.http.gateway.fake import Asked, Script, Wire, provider
from tests.http.gateway.plain import remote
from tests.http.toy import ToyBackend
from tests.http.toy_server import serving

HI = [{"role": "user", "content": "Hi"}]
# Each endpoint with the format of a provider that has it, as its own clients write it.
PATHS: list[tuple[Format, str]] = [
    ("openai", "/v1/chat/completions"),
    ("openai", "/v1/completions"),
    ("openai", "/v1/embeddings"),
    ("openai", "/v1/rerank"),
    ("responses", "/v1/responses"),
    ("responses", "/v1/embeddings"),
    ("anthropic", "/v1/messages"),
    ("anthropic", "/v1/messages/count_tokens"),
    ("ollama", "/api/chat"),
    ("ollama", "/api/generate"),
    ("ollama", "/api/embed"),
]
BODY = (
    b'{ "what" : [1.0, {"model":"no"}],\n\t"model": "far/model", "new\\u0041": 1e5, "what": null}'
)
PASSED = BODY.replace(b'"far/model"', b'"model"')
ODD = b'{"unheard": of, "no": JSON}'


def ask(
    port: int, path: str, body: bytes, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", path, body, headers or {})
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return response.status, told, response.read()


@pytest.mark.parametrize(("format", "path"), PATHS)
def test_a_request_goes_through_but_for_the_model_and_its_answer_as_it_is(
    format: Format, path: str
) -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(ODD, "201 Created", "x-request-id: theirs", "x-ratelimit-left: 3")

    with provider(script) as fake, serving(remote(fake.url, format)) as port:
        status, headers, answer = ask(port, f"{path}?beta=true", BODY)
    assert (status, answer) == (201, ODD)
    assert headers["x-request-id"] == "theirs" and headers["x-ratelimit-left"] == "3"
    assert headers["content-length"] == str(len(ODD)) and headers["request-id"] != "theirs"
    (asked,) = fake.asked
    assert (asked.method, asked.target, asked.body) == ("POST", f"{path}?beta=true", PASSED)


@pytest.mark.parametrize("kind", ["text/event-stream; charset=utf-8", "application/x-ndjson"])
def test_a_stream_goes_through_as_it_is(kind: str) -> None:
    pieces = [
        b": hi\r\n\r\n",
        b"event: x\nda",
        b"ta: \xc3",
        b"\xa4\n\nnonsense\r\r",
        b"",
        b"no end",
    ]

    def script(asked: Asked, wire: Wire) -> None:
        wire.begin(kind=kind)
        for piece in filter(None, pieces):
            wire.chunk(piece)
        wire.end()

    with provider(script) as fake, serving(remote(fake.url)) as port:
        _, headers, answer = ask(port, "/v1/chat/completions", BODY)
    assert answer == b"".join(pieces) and headers["content-type"] == kind


def test_an_event_goes_through_once_it_is_whole_and_not_later() -> None:
    seen = [threading.Event(), threading.Event()]

    def script(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(b"data: 1\n\ndata: ")
        assert seen[0].wait(20)
        wire.chunk(b"2\n\n")
        assert seen[1].wait(20)
        wire.end()

    with (
        provider(script) as fake,
        serving(remote(fake.url)) as port,
        closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection,
    ):
        connection.request("POST", "/v1/chat/completions", BODY)
        response = connection.getresponse()
        for number, event in enumerate(seen):
            assert [response.readline() for _ in range(2)] == [b"data: %d\n" % (number + 1), b"\n"]
            event.set()
        assert response.read() == b""


def test_errors_go_through_with_status_body_and_headers() -> None:
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"Slowly."}}'

    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(body, "429 Too Many Requests", "retry-after: 17", "request-id: req_theirs")

    with (
        provider(script) as fake,
        serving(remote(fake.url, "anthropic")) as port,
        Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="k", max_retries=0) as claude,
        pytest.raises(RateLimitError, match="Slowly") as caught,
    ):
        claude.messages.create(model="far/model", max_tokens=9, messages=HI)  # type: ignore
    assert caught.value.response.headers["retry-after"] == "17"
    assert caught.value.request_id == "req_theirs" and caught.value.response.content == body


def test_a_key_that_an_error_repeats_is_not_shown() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b'{"error": "sk-secret-0123 is wrong"}', "401 Unauthorized")

    with provider(script) as fake, serving(remote(fake.url, api_key="sk-secret-0123")) as port:
        status, _, answer = ask(port, "/v1/chat/completions", BODY)
    assert (status, answer) == (401, b'{"error": "*** is wrong"}')
    assert fake.asked[0].headers["authorization"] == "Bearer sk-secret-0123"


def breaks(asked: Asked, wire: Wire) -> None:
    wire.begin(kind="application/x-ndjson" if asked.target.startswith("/api") else wire_kind)
    if asked.target.startswith("/api"):
        wire.chunk(b'{"message":{"role":"assistant","content":"Hel"},"done":false}\n{"mess')
    else:
        wire.chunk(FIRST[asked.target] + b'event: x\ndata: {"hal')
    wire.close()


wire_kind = "text/event-stream"
CHUNK = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CHUNK["choices"] = [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}]
FIRST = {
    "/v1/chat/completions": b"data: %b\n\n" % json.dumps(CHUNK).encode(),
    "/v1/messages": b'event: ping\ndata: {"type": "ping"}\n\n',
    "/v1/responses": b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","item_id":"i",'
    b'"output_index":0,"content_index":0,"delta":"Hel","sequence_number":4,"logprobs":[]}\n\n',
}


def test_a_stream_that_breaks_ends_with_the_error_of_its_dialect() -> None:
    """What was begun of the next event is not sent: no client would read the error behind it."""
    with provider(breaks) as fake:
        with serving(remote(fake.url)) as port:
            url = f"http://127.0.0.1:{port}/v1"
            with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
                stream = client.chat.completions.create(
                    model="far/model",
                    stream=True,
                    messages=HI,  # type: ignore
                )
                assert next(stream).choices[0].delta.content == "Hel"
                with pytest.raises(openai.APIError, match="'far' broke off its answer"):
                    next(stream)
        with serving(remote(fake.url, "responses")) as port:
            url = f"http://127.0.0.1:{port}/v1"
            with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
                events = client.responses.create(model="far/model", input="Hi", stream=True)
                assert next(events).type == "response.output_text.delta"
                try:
                    error = str(next(events))
                except openai.APIError as raised:
                    error = str(raised)
                assert "'far' broke off its answer" in error
        with (
            serving(remote(fake.url, "anthropic")) as port,
            Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="k", max_retries=0) as claude,
            pytest.raises(APIStatusError, match="'far' broke off its answer"),
        ):
            list(claude.messages.create(**CLAUDE, stream=True))
        with serving(remote(fake.url, "ollama")) as port:
            _, _, answer = ask(port, "/api/chat", BODY)
            lines = [json.loads(line) for line in answer.splitlines()]
            assert lines[0]["message"]["content"] == "Hel" and len(lines) == 2
            assert "'far' broke off its answer" in lines[1]["error"]


CLAUDE: dict[str, Any] = {"model": "far/model", "max_tokens": 9, "messages": HI}


def test_an_answer_that_breaks_is_an_error() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{}"
        )
        wire.close()

    with provider(script) as fake, serving(remote(fake.url)) as port:
        status, _, answer = ask(port, "/v1/chat/completions", BODY)
    assert status == 502 and json.loads(answer)["error"]["code"] == "proxy_error"


def test_a_client_that_goes_closes_the_provider_s_connection() -> None:
    noticed = threading.Event()

    def script(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(b"data: 1\n\n")
        if wire.closed():
            noticed.set()

    with provider(script) as fake, serving(remote(fake.url)) as port:
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("POST", "/v1/chat/completions", BODY)
            response = connection.getresponse()
            assert response.readline() == b"data: 1\n"
            response.close()
        assert noticed.wait(20)


def told(
    script: Script, sent: dict[str, str], **settings: Any
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers that a provider was asked with, and those of the client's answer."""
    with provider(script) as fake, serving(remote(fake.url, **settings)) as port:
        path = "/v1/messages" if settings.get("format") == "anthropic" else "/v1/chat/completions"
        _, headers, _ = ask(port, path, BODY, sent)
    return fake.asked[0].headers, headers


def test_headers_go_on_but_for_those_of_one_connection() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        about = ["set-cookie: a=b", "connection: x-mine, keep-alive", "x-mine: 1", "server: far"]
        wire.answer(b"{}", "200 OK", *about, "openai-processing-ms: 5", "date: now")

    sent = {"connection": "x-own", "x-own": "1", "cookie": "a=b", "accept-encoding": "br"}
    sent |= {"te": "trailers", "x-forwarded-for": "192.0.2.1", "referer": "http://127.0.0.1"}
    sent |= {"user-agent": "OpenAI/Python", "openai-organization": "org", "x-stainless-lang": "py"}
    asked, answered = told(script, sent | {"content-type": "application/json"})
    kept = {"user-agent": "OpenAI/Python", "openai-organization": "org", "x-stainless-lang": "py"}
    assert kept.items() <= asked.items()
    sizes = {"host", "content-length", "accept-encoding", "content-type"}
    assert set(asked) == {*kept, *sizes} and asked["accept-encoding"] == "identity"
    assert answered["openai-processing-ms"] == "5"
    assert not {"set-cookie", "x-mine", "server"} & set(answered)


KEYS: list[tuple[dict[str, Any], dict[str, str], dict[str, str]]] = [
    ({"api_key": "ours"}, {"authorization": "Bearer theirs"}, {"x-api-key": "ours"}),
    ({}, {"authorization": "Bearer theirs"}, {"x-api-key": "theirs"}),
    ({}, {"x-api-key": "theirs"}, {"x-api-key": "theirs"}),
    ({"strip_auth": True}, {"x-api-key": "theirs", "api-key": "theirs"}, {}),
    (
        {"pass_auth": True},
        {"authorization": "Bearer sk-ant-oat"},
        {"authorization": "Bearer sk-ant-oat"},
    ),
    ({"api_key": "ours", "pass_auth": True}, {}, {"x-api-key": "ours"}),
    (
        {"headers": {"Authorization": "Basic x"}},
        {"x-api-key": "a"},
        {"x-api-key": "a", "authorization": "Basic x"},
    ),
]


@pytest.mark.parametrize(("settings", "sent", "keys"), KEYS)
def test_the_key_is_the_provider_s_or_the_client_s(
    settings: dict[str, Any], sent: dict[str, str], keys: dict[str, str]
) -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b"{}")

    beta = {"anthropic-beta": "a", "anthropic-version": "2024-01-01"}
    asked, _ = told(script, sent | beta, format="anthropic", **settings)
    assert {name: asked[name] for name in asked if name in keys or "key" in name} == keys
    assert beta.items() <= asked.items()
    asked, _ = told(script, sent, format="anthropic", **settings)
    assert asked["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize("body", [b'{"model": "far/model",', b"[]", b'{"model": 7}', b"", b"\xff"])
def test_what_is_no_request_goes_nowhere(body: bytes) -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b"{}")

    with provider(script) as fake, serving(remote(fake.url)) as port:
        status, _, answer = ask(port, "/v1/chat/completions", body)
    assert status == 400 and not fake.asked and "error" in json.loads(answer)


def test_models_of_this_server_are_asked_as_ever() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b"{}")

    toy = ToyBackend("toy")
    body = json.dumps({"model": "toy", "messages": HI}).encode()
    with provider(script) as fake, serving(toy, remote(fake.url)) as port:
        status, _, answer = ask(port, "/v1/chat/completions", body)
        assert json.loads(answer)["choices"][0]["message"]["content"] == "Hello there"
        status, _, answer = ask(port, "/v1/chat/completions", b'{"model": "none", "messages": []}')
        assert status == 404 and len(toy.requests) == 1 and not fake.asked


def test_h6_completions_embeddings_and_ranks_are_refused_for_an_anthropic_provider() -> None:
    asked: dict[str, Any] = {
        "/v1/completions": {"prompt": "Once"},
        "/v1/embeddings": {"input": "a"},
        "/v1/rerank": {"query": "a", "documents": ["b"]},
    }
    with serving(remote("http://127.0.0.1:9", "anthropic")) as port:
        for path, body in asked.items():
            status, _, answer = ask(port, path, json.dumps(body | {"model": "far/model"}).encode())
            error = json.loads(answer)["error"]
            assert status == 400 and error["param"] == "model" and path in error["message"]
            assert "'far'" in error["message"]


def test_a_large_body_goes_through() -> None:
    body = b'{"x": "%b", "model": "far/model"}' % (b"y" * 2**18)

    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(asked.body)

    with provider(script) as fake, serving(remote(fake.url)) as port:
        status, _, answer = ask(port, "/v1/chat/completions", body)
    assert status == 200 and answer == body.replace(b"far/model", b"model")


def test_a_compressed_answer_goes_through_as_it_is_read() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(gzip.compress(ODD), "200 OK", "content-encoding: gzip")

    with provider(script) as fake, serving(remote(fake.url)) as port:
        _, headers, answer = ask(port, "/v1/chat/completions", BODY)
    assert answer == ODD and "content-encoding" not in headers
