"""Requests that are sent to other servers, judged by the official packages' types."""

from collections.abc import Iterable
from typing import Any, cast

import msgspec
from pydantic import TypeAdapter

from bessemer.translate.chat import Chat
from bessemer.translate.upstream.upstream import Upstream


def sent(
    upstream: Upstream, chat: Chat, official: TypeAdapter[Any], lossy: bool = False
) -> dict[str, Any]:
    """Return the body of a request; all that is in it is of the official type.

    But for the ids of thoughts, which OpenAI's package wants of responses that are stored. Codex
    sends none either.
    """
    encoded = upstream.encode_request(chat, lossy)
    body: dict[str, Any] = msgspec.json.decode(encoded)
    for item in body.get("input", ()):
        if item["type"] == "reasoning":
            item["id"] = "rs_1"
    _walk(official.validate_python(body))
    return cast("dict[str, Any]", msgspec.json.decode(encoded))


def _walk(value: Any) -> None:
    """Look at all of a value: what a package's types call iterable is validated only then."""
    if isinstance(value, dict):
        for each in value.values():
            _walk(each)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for each in value:
            _walk(each)
