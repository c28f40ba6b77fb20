"""The errors of other servers, as the refusals that a client is told in its own dialect."""

import re
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from msgspec import Raw, Struct

from ...engine.request import Refusal
from ..errors import ANTHROPIC_TYPES

LONGEST = 300  # characters of a text that is no JSON
# Anthropic's types -> statuses, of which an event of a stream has none.
STATUSES: Mapping[str, int] = {
    "invalid_request_error": 400,
    "billing_error": 402,
    **{kind: status for status, kind in ANTHROPIC_TYPES.items()},  # of two the later: 504, 529
    "api_error": 500,
}
# OpenAI's codes -> statuses, for the same reason; others are failures of the server's.
CODE_STATUSES: Mapping[str, int] = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "server_is_overloaded": 503,
    "overloaded": 503,
    "slow_down": 503,
}
CODES: Mapping[int, str] = {
    401: "invalid_api_key",
    402: "billing_error",
    403: "permission_denied",
    404: "not_found",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
TOO_LONG = re.compile(r"prompt is too long(?:: (\d+) tokens > (\d+) maximum)?")


class Error(Struct):
    """An error's object; it has what its dialect has of these."""

    message: str = ""
    type: str | None = None
    code: str | int | None = None
    param: str | None = None


class Body(Struct):
    error: Raw = Raw()
    message: str = ""
    detail: Raw = Raw()  # FastAPI's, of servers that let it speak


def decode_error(status: int, body: bytes) -> Refusal:
    """Return what a body says, by its status, whatever it is."""
    error = _error(body)
    if error is None:
        return refusal(status, Error(_plain(status, body)))
    return refusal(status, error)


def refusal(status: int, error: Error) -> Refusal:
    """Return an error as a refusal of that status."""
    usual = CODES.get(status, "invalid_request" if status < 500 else "server_error")
    code = error.code if isinstance(error.code, str) and error.code else usual
    message = error.message or _phrase(status)
    sizes = None
    if match := TOO_LONG.search(message):
        code = "context_length_exceeded"
        sizes = (int(match[1]), int(match[2])) if match[1] else None
    return Refusal(status, code, message, error.param, sizes=sizes)


def told(error: Error) -> Refusal:
    """Return an error that a stream tells, which has no status but by its type and code."""
    status = STATUSES.get(error.type or "", 0) or CODE_STATUSES.get(str(error.code), 0)
    if isinstance(error.code, int) and 400 <= error.code < 600:
        status = error.code
    return refusal(status or 500, error)


def _error(body: bytes) -> Error | None:
    """Return the error of a body, in OpenAI's or Anthropic's form or as a text."""
    try:
        sent = msgspec.json.decode(body, type=Body)
    except ValueError:
        return None
    for raw in (sent.error, sent.detail):
        for kind in (Error, str):
            try:
                found = msgspec.json.decode(raw, type=kind)
            except ValueError:
                continue
            return found if isinstance(found, Error) else Error(str(found))
    return Error(sent.message) if sent.message else None


def _plain(status: int, body: bytes) -> str:
    """Return a text that is for people; a page for browsers says nothing."""
    text = body[: 4 * LONGEST].decode(errors="replace").strip()
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return f"{_phrase(status)}: {short}" if short and short[0] not in "<{[" else _phrase(status)


def _phrase(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"
