"""Cross-origin requests: which web pages may call this server (https://fetch.spec.whatwg.org)."""

from collections.abc import Sequence

from ..engine.request import Refusal
from .message import Headers, HttpRequest, Response

EXPOSED = b"x-request-id, request-id, retry-after"
METHODS = b"GET, HEAD, POST"
MAX_AGE = b"600"  # seconds a browser may keep the verdict; Chromium allows 7200 at most


class Cors:
    """The origins that may call; without any, no header is added, and browsers keep pages out."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.rstrip("/").encode() for origin in origins)

    def headers(self, request: HttpRequest) -> Headers:
        if not self._origins:
            return ()
        vary = (b"vary", b"origin")  # also where the answer is no: caches must not mix them up
        if not self._allows(request.header(b"origin")):
            return (vary,)
        origin = request.header(b"origin") or b""
        return (
            vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
        )

    def preflight(self, request: HttpRequest) -> Response | None:
        """Answer a browser that asks first; None where the request is no such question."""
        method = request.header(b"access-control-request-method")
        if not self._origins or request.method != "OPTIONS" or method is None:
            return None
        if not self._allows(request.header(b"origin")):
            raise Refusal(403, "origin_not_allowed", "This origin may not call this server.")
        names = request.header(b"access-control-request-headers") or b"*"
        return Response(
            204,
            b"",
            (
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", names),
                (b"access-control-max-age", MAX_AGE),
            ),
        )

    def _allows(self, origin: bytes | None) -> bool:
        return origin is not None and (b"*" in self._origins or origin in self._origins)
