"""API keys: who may ask, and as whom they count."""

import hmac
import os
from collections.abc import Sequence
from hashlib import sha256

from ..engine.request import Refusal
from .message import HttpRequest

KEYED = "key:"  # begins the name of a caller who sent a key
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
        digest = sha256(key).digest()
        if sum(hmac.compare_digest(digest, known) for known in self._digests) == 0:
            raise Refusal(401, "invalid_api_key", "The API key is not one of this server's.")
        return KEYED + digest.hex()


def presented(request: HttpRequest) -> bytes | None:
    scheme, _, token = (request.header(b"authorization") or b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return request.header(b"x-api-key") or None
