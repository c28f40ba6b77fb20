"""API keys: who may ask, and as whom they count."""

import hmac
import os
from collections.abc import Sequence
from hashlib import sha256

from ..engine.request import Refusal
from .message import Headers, HttpRequest

KEYED = "key:"  # begins the name of a caller who sent a key
KEYS = frozenset({b"authorization", b"x-api-key"})  # the headers that have one
CHALLENGE = (b"www-authenticate", b"Bearer")


class Auth:
    """The server's keys (none: everybody may ask); comparing takes the same time for any guess."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [sha256(os.fsencode(each)).digest() for each in keys]

    def caller(self, request: HttpRequest) -> str:
        """Name the client: by its key's digest, or by its address where no key is asked for."""
        if not self._digests:
            return request.client
        key = presented(request)
        if key is None:
            raise Refusal(
                401,
                "missing_api_key",
                "This server asks for an API key: send Authorization: Bearer KEY or x-api-key.",
            )
        if not self._knows(key):
            raise Refusal(401, "invalid_api_key", "The API key is not one of this server's.")
        return KEYED + sha256(key).hexdigest()

    def without_ours(self, headers: Headers) -> Headers:
        """Return the headers of a request without those that have a key of this server's.

        What is left of them is the client's own key for another server.
        """
        if not self._digests:
            return headers
        return tuple(
            (name, value)
            for name, value in headers
            if name not in KEYS or ((key := _token(name, value)) and not self._knows(key))
        )

    def _knows(self, key: bytes) -> bool:
        digest = sha256(key).digest()
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def presented(request: HttpRequest) -> bytes | None:
    return key_of(request.headers).encode("latin-1") or None


def key_of(headers: Headers) -> str:
    """Return the key that a request has, empty where it has none."""
    first = dict(reversed(headers))
    bearer = _token(b"authorization", first.get(b"authorization", b""))
    return (bearer or first.get(b"x-api-key", b"")).decode("latin-1")


def _token(name: bytes, value: bytes) -> bytes:
    """Return the key that a header has, if any."""
    if name != b"authorization":
        return value
    scheme, _, token = value.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
