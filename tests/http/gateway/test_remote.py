"""A provider that is asked: where, what its errors are here, and that its key is not shown."""

import asyncio

import pytest

from bessemer.http.gateway.provider import Provider
from bessemer.translate.chat import Chat, GenerationOptions
from tests.http.gateway.fake import Asked, Wire
from tests.http.gateway.plain import remote
from tests.http.gateway.test_backend import BEGUN, HI, STREAM, broken_stream, frames, refusal


@pytest.mark.parametrize("status", ["400 Bad Request", "401 No", "429 Slow", "500 Oh", "529 Busy"])
def test_errors_keep_their_status_and_message_and_when_to_ask_again(status: str) -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b"It is so.", status, "retry-after: 6.2")

    for options in (GenerationOptions(), STREAM):
        found = refusal(script, Chat("m", HI, options))
        assert (found.status, found.message) == (int(status[:3]), "It is so.")
        assert (found.code, found.retry_after) == ("far_error", 7)


def test_a_redirection_is_no_answer() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b"", "301 Moved Permanently", "location: https://elsewhere.example/")

    found = refusal(script, Chat("m", HI))
    assert found.status == 502 and "its url leads elsewhere (301)" in found.message


@pytest.mark.parametrize(
    ("url", "path", "target"),
    [
        ("http://h", "/v1/chat/completions", "/v1/chat/completions"),
        ("http://h/", "/v1/messages", "/v1/messages"),
        ("http://h/v1", "/v1/chat/completions", "/v1/chat/completions"),
        ("http://h/v1/", "/v1/messages", "/v1/messages"),
        ("https://openrouter.ai/api/v1", "/v1/chat/completions", "/api/v1/chat/completions"),
        ("http://h/v1beta/openai", "/v1/chat/completions", "/v1beta/openai/chat/completions"),
        ("http://h/api/paas/v4", "/v1/chat/completions", "/api/paas/v4/chat/completions"),
        ("http://h/anthropic", "/v1/messages", "/anthropic/v1/messages"),
        ("http://h/v1", "/api/chat", "/api/chat"),
        ("http://h", "/api/chat", "/api/chat"),
    ],
)
def test_base_urls_are_given_with_a_version_and_without(url: str, path: str, target: str) -> None:
    async def where() -> str:
        return remote(url).remote.target(path)

    assert asyncio.run(where()) == target


def test_a_key_that_a_provider_repeats_is_not_shown() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b"Incorrect API key: sk-secret.", "401 Unauthorized")

    found = refusal(script, Chat("m", HI), api_key="sk-secret")
    assert found.message == "Incorrect API key: ***."
    told = broken_stream(BEGUN, frames({"error": "sk-secret is over"}), end=Wire.end)
    assert refusal(told, Chat("m", HI, STREAM), api_key="sk-secret").message == "*** is over"
    assert "secret" not in repr(Provider(name="far", url="x", api_key="sk-secret"))
    assert "secret" not in repr(Chat("m", HI, key="sk-secret"))
