"""A dialect as small as can be that servers are asked in, and a model of a provider's behind it."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from bessemer.engine.request import Refusal
from bessemer.http.gateway.backend import RemoteBackend
from bessemer.http.gateway.client import HttpClient
from bessemer.http.gateway.provider import Provider
from bessemer.http.gateway.remote import Remote
from bessemer.http.local import Patience
from bessemer.translate.chat import (
    AnswerStarted,
    Chat,
    Done,
    Event,
    Finish,
    ReasoningDelta,
    TextDelta,
    Usage,
)
from bessemer.translate.dialect import ServerEvent
from bessemer.translate.upstream.upstream import Format, Upstream

USAGE = Usage(3, 2)


def bearer(key: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + key.encode()


def x_api_key(key: str) -> tuple[bytes, bytes]:
    return b"x-api-key", key.encode()


def encode_request(chat: Chat, lossy: bool) -> bytes:
    if chat.options.top_k is not None and not lossy:
        raise Refusal(400, "unsupported_value", "A plain dialect has no top_k.", "top_k")
    said = [[each.role, each.text] for each in chat.messages]
    return json.dumps({"model": chat.model, "said": said, "max_tokens": 9}).encode()


def decode_response(body: bytes) -> Sequence[Event]:
    answer = json.loads(body)
    if "text" not in answer:
        raise ValueError("it has no text")
    texts = (ReasoningDelta(0, answer["thought"]),) if "thought" in answer else ()
    ends = Finish(0, "stop"), Done(USAGE)
    return [AnswerStarted(Usage(3, 0)), *texts, TextDelta(0, answer["text"]), *ends]


class Stream:
    def __init__(self) -> None:
        self.over = False

    def decode(self, event: ServerEvent) -> Iterable[Event]:
        told = json.loads(event.data)
        match told:
            case {"begin": _}:
                yield AnswerStarted(Usage(3, 0))
            case {"thought": text}:
                yield ReasoningDelta(0, text)
            case {"text": text}:
                yield TextDelta(0, text)
            case {"error": message}:
                raise Refusal(529, "overloaded", message)
            case {"end": _}:
                self.over = True
                yield Finish(0, "stop")
                yield Done(USAGE)
            case _:
                raise ValueError("no event of the dialect")


def decode_error(status: int, body: bytes) -> Refusal:
    return Refusal(status, "far_error", body.decode())


def plain(format: Format = "openai", **changes: Any) -> Upstream:
    about: dict[str, Any] = {
        "format": format,
        "path": "/v1/plain",
        "framing": "ndjson" if format == "ollama" else "sse",
        "headers": {b"anthropic-version": b"2023-06-01"} if format == "anthropic" else {},
        "authorization": x_api_key if format == "anthropic" else bearer,
        "encode_request": encode_request,
        "decode_response": decode_response,
        "stream": Stream,
        "decode_error": decode_error,
    }
    return Upstream(**(about | changes))


def remote(
    url: str,
    format: Format = "openai",
    *,
    name: str = "far/model",
    heartbeat: float = 20.0,
    lossy: bool = False,
    upstream: Upstream | None = None,
    **settings: Any,
) -> RemoteBackend:
    """Return the model `model` of a provider `far` at this address."""
    provider = Provider(name="far", url=url, format=format, **settings)
    way = Remote(provider, upstream or plain(format), HttpClient(provider))
    return RemoteBackend(name, "model", way, Patience(heartbeat=heartbeat), lossy)
