"""The whole application without its socket: order of checks, and errors in both dialects."""

import asyncio
import io
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.app import Application
from bessemer.http.auth import Auth
from bessemer.http.body import Body
from bessemer.http.cors import Cors
from bessemer.http.hosts import Hosts
from bessemer.http.limits import RateLimit
from bessemer.http.log import Log
from bessemer.http.message import HttpRequest, Reply, Response, StreamingResponse
from bessemer.http.routes import Route, RouteTable
from bessemer.translate.errors import anthropic_error

KEY = (b"x-api-key", b"secret")
ORIGIN = (b"origin", b"https://app.example")


async def chunks() -> AsyncGenerator[bytes, None]:
    yield b"x"


async def chat(_: HttpRequest) -> Reply:
    return StreamingResponse(chunks())


async def messages(_: HttpRequest) -> Reply:
    raise Refusal(503, "overloaded", "The queue is full.", retry_after=3)


async def health(_: HttpRequest) -> Reply:
    return Response(200, b"{}")


ROUTES = {
    ("POST", "/v1/chat/completions"): Route(chat),
    ("POST", "/v1/messages"): Route(messages, anthropic_error),
    ("GET", "/health"): Route(health, public=True),
}


def application(stream: io.BytesIO) -> Application:
    return Application(
        RouteTable(ROUTES),
        Auth(["secret"]),
        RateLimit(2, lambda: 0.0),
        Cors(("https://app.example",)),
        Log("info", stream),
        Hosts(("*",)),
    )


def request(method: str, path: str, *headers: tuple[bytes, bytes]) -> HttpRequest:
    return HttpRequest(method, path, "", headers, Body(), "127.0.0.1", "req_1")


async def answer(app: Application, http_request: HttpRequest) -> Reply:
    return await app(app.admit(http_request))


def refusal(app: Application, http_request: HttpRequest) -> tuple[int, dict[bytes, bytes], Any]:
    with pytest.raises(Refusal) as caught:
        asyncio.run(answer(app, http_request))
    reply = app.refuse(http_request, caught.value)
    return reply.status, dict(reply.headers), json.loads(reply.body)


def test_keys_then_rates() -> None:
    app = application(io.BytesIO())
    http_request = request("POST", "/v1/chat/completions")
    status, headers, body = refusal(app, http_request)
    assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
    assert body["error"]["code"] == "missing_api_key"
    http_request = request("POST", "/v1/chat/completions", KEY)
    for _ in range(2):
        assert isinstance(asyncio.run(answer(app, http_request)), StreamingResponse)
    status, headers, _ = refusal(app, http_request)
    assert (status, headers[b"retry-after"]) == (429, b"30")
    assert headers[b"content-type"] == b"application/json"


def test_public_routes_ask_for_nothing() -> None:
    app = application(io.BytesIO())
    for _ in range(5):
        for method, path in (("GET", "/health"), ("HEAD", "/"), ("GET", "/v1/")):
            reply = asyncio.run(answer(app, request(method, path)))
            assert reply.status == 200


def test_an_anthropic_error() -> None:
    app = application(io.BytesIO())
    status, headers, body = refusal(app, request("POST", "/v1/messages", KEY))
    assert (status, headers[b"retry-after"]) == (503, b"3")
    assert (body["type"], body["request_id"]) == ("error", "req_1")


def test_the_wrong_method_says_which_is_right() -> None:
    app = application(io.BytesIO())
    status, headers, body = refusal(app, request("GET", "/v1/messages"))
    assert (status, headers[b"allow"], body["type"]) == (405, b"POST", "error")


def test_a_coding_that_nobody_undoes_is_refused_before_the_body_is_read() -> None:
    app = application(io.BytesIO())
    http_request = request("POST", "/v1/messages", KEY, (b"content-encoding", b"br"))
    with pytest.raises(Refusal) as caught:
        app.admit(http_request)
    assert caught.value.status == 415
    headers = dict(app.refuse(http_request, caught.value).headers)
    assert headers[b"accept-encoding"] == b"gzip, deflate"
    for refused in (Refusal(400, "bad_request", "No."), Refusal(405, "method", "No.")):
        headers = dict(app.refuse(http_request, refused).headers)
        assert b"accept-encoding" not in headers and b"www-authenticate" not in headers


@pytest.mark.parametrize("header", [ORIGIN, (b"host", b"app.example")])
def test_pages_of_other_sites_and_rebound_names_reach_no_handler(
    header: tuple[bytes, bytes],
) -> None:
    strict = replace(application(io.BytesIO()), cors=Cors(()), hosts=Hosts(()))
    from_elsewhere = request("POST", "/v1/chat/completions", KEY, header)
    with pytest.raises(Refusal) as caught:
        strict.admit(from_elsewhere)
    assert caught.value.status == 403


def test_cross_origin_answers_and_errors_can_be_read() -> None:
    app = application(io.BytesIO())
    name = b"access-control-allow-origin"
    reply = asyncio.run(answer(app, request("POST", "/v1/chat/completions", KEY, ORIGIN)))
    assert dict(reply.headers)[name] == ORIGIN[1]
    assert refusal(app, request("GET", "/nowhere", ORIGIN))[1][name] == ORIGIN[1]
    asks = (b"access-control-request-method", b"POST")
    reply = asyncio.run(answer(app, request("OPTIONS", "/v1/messages", ORIGIN, asks)))
    assert reply.status == 204 and dict(reply.headers)[name] == ORIGIN[1]


def test_the_log_has_neither_keys_nor_queries() -> None:
    stream = io.BytesIO()
    app = application(stream)
    http_request = HttpRequest(
        "GET", "/x", "key=secret", (KEY,), Body(b"secret"), "127.0.0.1", "req_1"
    )
    app.finished(http_request, 404, 10, 0.001)
    app.finished(request("", ""), 400, 10, 0.0)
    app.crashed(http_request, ValueError("bug"))
    app.log.close()
    text = stream.getvalue().decode()
    assert '127.0.0.1 "GET /x" 404 1.0 ms 10 B req_1\n' in text
    assert '"-" 400' in text
    assert "GET /x failed (req_1)" in text and "ValueError: bug" in text
    assert "secret" not in text
