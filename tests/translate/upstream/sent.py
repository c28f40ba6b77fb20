"""Requests that are sent to other servers, judged by the official packages' types."""

from collections.abc import Iterable
from typing import Any

import msgspec
from pydantic import TypeAdapter

from bessemer.translate.chat import Chat
from bessemer.translate.upstream.upstream import Upstream


def sent(
    upstream: Upstream, chat: Chat, official: TypeAdapter[Any], lossy: bool = False
) -> dict[str, Any]:
    """Return the body of a request; all that is in it is of the official type."""
    body: dict[str, Any] = msgspec.json.decode(upstream.encode_request(chat, lossy))
    _walk(official.validate_python(body))
    return body


def _walk(value: Any) -> None:
    """Look at all of a value: what a package's types call iterable is validated only then."""
    if isinstance(value, dict):
        for each in value.values():
            _walk(each)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for each in value:
            _walk(each)
