"""The routing table: spellings of a path, what is not there, and the dialect of an error."""

import asyncio

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.body import Body
from bessemer.http.message import HttpRequest, Reply, Response
from bessemer.http.routes import Route, RouteTable, plain, rest
from bessemer.translate.errors import anthropic_error, ollama_error, openai_error


async def chat(_: HttpRequest) -> Reply:
    return Response(200, b"chat")


async def models(_: HttpRequest) -> Reply:
    return Response(200, b"models")


async def model(request: HttpRequest) -> Reply:
    return Response(200, rest(request, "/v1/models").encode())


async def messages(_: HttpRequest) -> Reply:
    return Response(200, b"messages")


async def health(_: HttpRequest) -> Reply:
    return Response(200, b"health")


ROUTER = RouteTable(
    {
        ("POST", "/v1/chat/completions"): Route(chat),
        ("GET", "/v1/models"): Route(models),
        ("GET", "/v1/models/{id}"): Route(model),
        ("POST", "/v1/messages"): Route(messages, anthropic_error),
        ("GET", "/health"): Route(health, public=True),
    }
)


def request(method: str, path: str, *headers: tuple[bytes, bytes]) -> HttpRequest:
    return HttpRequest(method, path, "", headers, Body(), "127.0.0.1", "req_1")


def answer(method: str, path: str) -> bytes:
    async def reply() -> Reply:
        message = request(method, path)
        return await ROUTER.find(message).handler(message)

    response = asyncio.run(reply())
    assert isinstance(response, Response)
    return response.body


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat/completions", b"chat"),
        ("POST", "/chat/completions", b"chat"),
        ("POST", "/v1/chat/completions/", b"chat"),
        ("POST", "//v1/chat/completions", b"chat"),
        ("POST", "/v1//chat/completions", b"chat"),
        ("POST", "/v1/v1/chat/completions", b"chat"),
        ("POST", "/v1/v1/v1//chat/completions", b"chat"),
        ("GET", "/v1/v1/models", b"models"),
        ("GET", "/v1/v1/models/qwen", b"qwen"),
        ("GET", "/v1/models", b"models"),
        ("GET", "/v1/models/", b"models"),
        ("HEAD", "/models", b"models"),
        ("GET", "/v1/models/qwen", b"qwen"),
        ("GET", "/models/Qwen/Qwen3-0.6B", b"Qwen/Qwen3-0.6B"),
        ("GET", "/v1/models/Qwen%2FQwen3-0.6B", b"Qwen/Qwen3-0.6B"),
        ("GET", "/v1/models/v1/models/x", b"v1/models/x"),
        ("GET", "/v1/models/a%20b", b"a b"),
        ("GET", "/health", b"health"),
        ("GET", "/v1/health", b"health"),
        ("GET", "/", b'{"name":"bessemer"}'),
        ("HEAD", "/", b'{"name":"bessemer"}'),
        ("GET", "/v1", b'{"name":"bessemer"}'),
    ],
)
def test_paths(method: str, path: str, body: bytes) -> None:
    assert answer(method, path) == body


@pytest.mark.parametrize(
    "path", ["/v2/models", "/v1models", "/modelsx", "/health/x", "*", "/%76%31"]
)
def test_unknown_paths(path: str) -> None:
    with pytest.raises(Refusal) as caught:
        ROUTER.find(request("GET", path))
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    assert path in caught.value.message


@pytest.mark.parametrize(
    "path",
    ["/v1/messages/v1/messages", "/v1/chat/completions/chat/completions", "/api/v1/messages"],
)
def test_a_wrong_base_url_is_told(path: str) -> None:
    with pytest.raises(Refusal, match="base URL") as caught:
        ROUTER.find(request("POST", path))
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", ("POST",)),
        ("HEAD", "/v1/chat/completions", ("POST",)),
        ("POST", "/v1/models", ("GET", "HEAD")),
        ("DELETE", "/v1/models/a/b", ("GET", "HEAD")),
    ],
)
def test_wrong_methods(method: str, path: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(Refusal) as caught:
        ROUTER.find(request(method, path))
    assert (caught.value.status, caught.value.code) == (405, "method_not_allowed")
    assert ", ".join(allowed) in caught.value.message
    assert ROUTER.allowed(path) == allowed


def test_the_dialect_of_an_error() -> None:
    version = (b"anthropic-version", b"2023-06-01")
    speaks = ROUTER.encode_error
    assert speaks(request("GET", "/v1/messages")) is anthropic_error
    assert speaks(request("POST", "/v1/chat/completions", version)) is openai_error
    assert speaks(request("GET", "/nowhere", version)) is anthropic_error
    assert speaks(request("GET", "/nowhere")) is openai_error
    assert speaks(request("", "")) is openai_error
    assert speaks(request("POST", "/api/pull")) is ollama_error


def test_a_given_root_wins() -> None:
    router = RouteTable({("GET", "/"): Route(health)})
    assert router.find(request("GET", "/")).handler is health


def test_the_longest_prefix_wins() -> None:
    routes = {("GET", "/a/{id}"): Route(chat), ("GET", "/a/b/{id}"): Route(health)}
    for order in (routes, dict(reversed(routes.items()))):
        router = RouteTable(order)
        assert router.find(request("GET", "/a/b/c")).handler is health
        assert router.find(request("GET", "/a/bc")).handler is chat


def test_plain() -> None:
    assert plain("/v1/a/b/") == plain("a/b") == "/a/b"
    assert plain("") == plain("/v1/") == plain("/v1") == "/"
