"""Cross-origin requests: which web pages may call this server (https://fetch.spec.whatwg.org)."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from ..engine.request import Refusal
from .message import Headers, HttpRequest, Response

EXPOSED = b"x-request-id, request-id, retry-after, x-context-overflow"
METHODS = b"GET, HEAD, POST"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
SAME = frozenset({b"same-origin", b"none"})  # what a browser says where no other site asks
LOCAL = (b"private-network", b"local-network")  # asked for where a page reaches into a network
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
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

    def check(self, request: HttpRequest) -> None:
        """Refuse what a page of another origin sends, whether or not it could read the answer.

        As Go's http.CrossOriginProtection: a page cannot set these headers, other clients do not,
        and what only reads may pass.
        """
        if request.method in READING:
            return
        origin, site = request.header(b"origin"), request.header(b"sec-fetch-site")
        if site in SAME or self._allows(origin) or (origin is None and site != b"cross-site"):
            return
        if origin is None or not same_origin(origin, request.header(b"host") or b""):
            raise stranger()

    def asks(self, request: HttpRequest) -> bool:
        """Say whether a browser asks first, before a request of another origin."""
        asked = request.header(b"access-control-request-method")
        return bool(self._origins) and request.method == "OPTIONS" and asked is not None

    def preflight(self, request: HttpRequest) -> Response | None:
        """Answer a browser that asks first; None where the request is no such question."""
        if not self.asks(request):
            return None
        if not self._allows(request.header(b"origin")):
            raise stranger()
        names = request.header(b"access-control-request-headers") or b"*"
        return Response(
            204,
            b"",
            (
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", names),
                (b"access-control-max-age", MAX_AGE),
                *(
                    (b"access-control-allow-" + network, b"true")
                    for network in LOCAL
                    if request.header(b"access-control-request-" + network) == b"true"
                ),
            ),
        )

    def _allows(self, origin: bytes | None) -> bool:
        return origin is not None and (b"*" in self._origins or origin in self._origins)


def stranger() -> Refusal:
    message = "This origin may not call this server; --cors-origin lets it."
    return Refusal(403, "origin_not_allowed", message)


def same_origin(origin: bytes, host: bytes) -> bool:
    """Say whether a page came from this host; its scheme is a proxy's business."""
    try:
        parts = urlsplit(origin.decode("ascii").lower())
    except ValueError:
        return False
    if parts.scheme not in DEFAULT_PORTS:
        return False
    port = DEFAULT_PORTS[parts.scheme]
    named = host.decode("latin-1").lower().removesuffix(port)
    return bool(parts.netloc) and parts.netloc.removesuffix(port) == named
