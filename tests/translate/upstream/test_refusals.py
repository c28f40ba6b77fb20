"""Errors of other servers, in the forms that they have."""

import json
from typing import Any

import pytest
from anthropic.types import ErrorResponse

from bessemer.translate.upstream.refusals import Error, decode_error, told

ANTHROPIC = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
LONG = "prompt is too long: 200001 tokens > 200000 maximum"


@pytest.mark.parametrize(
    ("status", "body", "code", "message", "field"),
    [
        (529, ANTHROPIC | {"request_id": "r"}, "overloaded", "Overloaded", None),
        (
            404,
            {
                "error": {
                    "message": "No m.",
                    "type": "x",
                    "param": "model",
                    "code": "model_not_found",
                }
            },
            "model_not_found",
            "No m.",
            "model",
        ),
        (
            400,
            {"error": {"message": "No.", "type": "x", "code": None}},
            "invalid_request",
            "No.",
            None,
        ),
        (404, {"error": 'model "m" not found'}, "not_found", 'model "m" not found', None),
        (400, {"object": "error", "message": "No.", "code": 400}, "invalid_request", "No.", None),
        (401, {"detail": "No key."}, "invalid_api_key", "No key.", None),
        (429, {"error": {"message": "Slow.", "code": 429}}, "rate_limit_exceeded", "Slow.", None),
        (500, {"error": {}}, "server_error", "HTTP 500 Internal Server Error", None),
        (502, {"odd": 1}, "server_error", "HTTP 502 Bad Gateway", None),
        (503, "<html>", "overloaded", "HTTP 503 Service Unavailable", None),
        (504, "", "timeout", "HTTP 504 Gateway Timeout", None),
        (599, "no healthy upstream", "server_error", "HTTP 599: no healthy upstream", None),
        (502, "a" * 999, "server_error", f"HTTP 502 Bad Gateway: {'a' * 300}...", None),
    ],
)
def test_bodies(status: int, body: Any, code: str, message: str, field: str | None) -> None:
    sent = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    refusal = decode_error(status, sent)
    assert (refusal.status, refusal.code) == (status, code)
    assert (refusal.message, refusal.field) == (message, field)


def test_a_prompt_that_is_too_long_is_known_by_anthropic_s_sentence() -> None:
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": LONG}}
    ErrorResponse.model_validate(body | {"request_id": "r"})
    refusal = decode_error(400, json.dumps(body).encode())
    assert (refusal.code, refusal.sizes) == ("context_length_exceeded", (200001, 200000))
    bare = decode_error(400, b'{"error": "prompt is too long"}')
    assert (bare.code, bare.sizes) == ("context_length_exceeded", None)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Error("a", "rate_limit_error"), 429),
        (Error("a", "timeout_error"), 504),
        (Error("a", "overloaded_error"), 529),
        (Error("a", code="insufficient_quota"), 429),
        (Error("a", code=502), 502),
        (Error("a", code=7), 500),
        (Error("a"), 500),
    ],
)
def test_a_stream_s_have_a_status_by_their_type_or_code(error: Error, status: int) -> None:
    assert told(error).status == status
