"""Error bodies as the official SDKs understand them."""

import anthropic
import httpx2
import msgspec
import openai
import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.errors import anthropic_error, openai_error


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "invalid_request_error"),
        (404, "invalid_request_error"),
        (408, "timeout_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_openai_types(status: int, kind: str) -> None:
    body = msgspec.json.decode(openai_error(Refusal(status, "a_code", "What.", "a.field")))
    assert body == {
        "error": {"message": "What.", "type": kind, "param": "a.field", "code": "a_code"}
    }


def test_openai_without_a_field() -> None:
    body = msgspec.json.decode(openai_error(Refusal(500, "oops", "What.")))
    assert body["error"]["param"] is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_anthropic_types(status: int, kind: str) -> None:
    body = msgspec.json.decode(anthropic_error(Refusal(status, "c", "What."), "req_1"))
    assert body == {
        "type": "error",
        "error": {"type": kind, "message": "What."},
        "request_id": "req_1",
    }


def test_anthropic_in_a_stream_has_no_request_id() -> None:
    assert b"request_id" not in anthropic_error(Refusal(500, "c", "What."))


@pytest.mark.parametrize(
    ("sizes", "says"),
    [((9, 8), "prompt is too long: 9 tokens > 8 maximum"), (None, "prompt is too long: Far.")],
)
def test_anthropic_s_clients_know_a_prompt_that_is_too_long(
    sizes: tuple[int, int] | None, says: str
) -> None:
    refusal = Refusal(400, "context_length_exceeded", "Far.", sizes=sizes)
    error = msgspec.json.decode(anthropic_error(refusal))["error"]
    assert error == {"type": "invalid_request_error", "message": says}
    assert msgspec.json.decode(openai_error(refusal))["error"]["message"] == "Far."


def test_the_openai_sdk_reads_the_body() -> None:
    refusal = Refusal(404, "model_not_found", "There is no model x.", "model")
    with pytest.raises(openai.NotFoundError) as caught:
        openai.OpenAI(
            api_key="k", http_client=httpx2.Client(transport=_answers(404, openai_error(refusal)))
        ).models.retrieve("x")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "There is no model x." in caught.value.message


def test_the_anthropic_sdk_reads_the_body() -> None:
    body = anthropic_error(Refusal(413, "too_large", "Too large."), "req_1")
    client = anthropic.Anthropic(
        api_key="k", http_client=httpx2.Client(transport=_answers(413, body))
    )
    with pytest.raises(anthropic.RequestTooLargeError) as caught:
        client.models.list()
    assert caught.value.body == msgspec.json.decode(body)


def _answers(status: int, body: bytes) -> httpx2.MockTransport:
    headers = {"content-type": "application/json"}
    return httpx2.MockTransport(lambda _: httpx2.Response(status, content=body, headers=headers))
