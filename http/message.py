"""The request that a handler receives, the reply that it returns, and who calls it: no socket."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from ..engine.request import Refusal
from .body import Body
from .gateway.routing import Meant

Headers = tuple[tuple[bytes, bytes], ...]
JSON: Headers = ((b"content-type", b"application/json"),)


class HttpRequest(Struct, frozen=True):
    """A whole request: lower-case header names, the peer's address, an id of our own.

    `caller` is whose request it is, once auth knows; `meant`, once that is decided, what answers
    it.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: Body
    client: str
    id: str
    caller: str = ""
    meant: Meant | None = None

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header; `name` is in lower case."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    headers: Headers = JSON


@dataclass(frozen=True, slots=True)
class StreamingResponse:
    """A body that comes piece by piece; the iterator is closed when the client goes away.

    `failure` says, as the body's end, why it breaks off; None: it cannot say.
    """

    chunks: AsyncGenerator[bytes, None]
    status: int = 200
    headers: Headers = ()
    failure: Callable[[Refusal], bytes] | None = None


Reply = Response | StreamingResponse


class App(Protocol):
    """The application behind a connection."""

    def admit(self, request: HttpRequest) -> HttpRequest:
        """Return a request, whose header alone is here, as it is to be answered. Raises Refusal."""
        ...

    def __call__(self, request: HttpRequest) -> Awaitable[Reply]: ...

    def refuse(self, request: HttpRequest, refusal: Refusal) -> Response:
        """Return the error; `request` is as much as was read, its method empty if nothing was."""
        ...

    def crashed(self, request: HttpRequest, error: Exception) -> None:
        """Note that a handler or its stream raised what is no Refusal; the client is not told."""
        ...

    def finished(self, request: HttpRequest, status: int, sent: int, seconds: float) -> None:
        """Note that an exchange is over; `sent` counts the bytes of its body."""
        ...
