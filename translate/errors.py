"""The error body of a Refusal, in each dialect."""

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ..engine.request import Refusal

# OpenAI's SDKs choose the exception by status; `type` is what people read in logs.
OPENAI_TYPES = {
    408: "timeout_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
# https://docs.anthropic.com/en/api/errors; 503 is what other servers say where Anthropic says 529.
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class OpenAIError(Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorBody(Struct):
    error: OpenAIError


class AnthropicError(Struct):
    type: str
    message: str


class AnthropicErrorBody(Struct, tag="error"):
    error: AnthropicError
    request_id: str | UnsetType = UNSET


def openai_error(refusal: Refusal, request_id: str | None = None) -> bytes:
    """Encode the body, which has no place for the id."""
    kind = _kind(OPENAI_TYPES, refusal.status, "server_error")
    error = OpenAIError(refusal.message, kind, refusal.field, refusal.code)
    return msgspec.json.encode(OpenAIErrorBody(error))


def anthropic_error(refusal: Refusal, request_id: str | None = None) -> bytes:
    """Encode the body, with the id where there is one: in a stream the answer has told it."""
    kind = _kind(ANTHROPIC_TYPES, refusal.status, "api_error")
    error = AnthropicError(kind, _too_long(refusal) or refusal.message)
    return msgspec.json.encode(AnthropicErrorBody(error, request_id or UNSET))


def _too_long(refusal: Refusal) -> str:
    """Return Anthropic's sentence for a prompt that is too long, by which its clients know it."""
    if refusal.code != "context_length_exceeded":
        return ""
    if refusal.sizes is None:
        return f"prompt is too long: {refusal.message}"
    tokens, most = refusal.sizes
    return f"prompt is too long: {tokens} tokens > {most} maximum"


def _kind(types: dict[int, str], status: int, server_side: str) -> str:
    return types.get(status, "invalid_request_error" if status < 500 else server_side)
