"""The request that a handler receives and the reply that it returns, without a socket."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from msgspec import Struct

from ..engine.request import Refusal
from .body import Body

Headers = tuple[tuple[bytes, bytes], ...]
JSON: Headers = ((b"content-type", b"application/json"),)


class HttpRequest(Struct, frozen=True):
    """A whole request: lower-case header names, the peer's address, an id of our own.

    `caller` is whose request it is, once auth knows.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: Body
    client: str
    id: str
    caller: str = ""

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
