"""Signatures of thoughts, by which one that comes back in a conversation is known to be our own.

The key lives as long as the server. What another key signed, another server's or this one's before
a restart, cannot be checked, and is no reason to refuse a conversation.
"""

import hmac
import re
import secrets
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error

KEY = secrets.token_bytes(32)
SEALING_KEY = hmac.digest(KEY, b"sealing", "sha256")  # of thoughts that are in the signature
NAME = "Bessemer"  # the first characters of each, which is base64 too
KEY_ID = hmac.digest(KEY, b"id", "sha256")[:6]
DIGEST = 24  # bytes
FORM = re.compile(r"[A-Za-z0-9+/=_-]{32,}")  # also of others': base64, hexadecimal or a UUID


class Signer:
    """Signs one thought, which comes in pieces."""

    def __init__(self, text: str = "") -> None:
        self._mac = hmac.new(KEY, text.encode(), "sha256")

    def add(self, text: str) -> None:
        self._mac.update(text.encode())

    @property
    def signature(self) -> str:
        return _written(self._mac.digest()[:DIGEST])


def seal(thought: str) -> str:
    """Return a signature that holds the thought itself, for a client that is not shown it."""
    sealed = zlib.compress(thought.encode())
    return _written(_digest(SEALING_KEY, sealed), sealed)


def opened(signature: str, thought: str) -> str | None:
    """Return the thought that was signed: this one, or a sealed one; None for a forged signature.

    Without a signature there is nothing to check; with another server's, nothing that can be.
    """
    if not signature:
        return thought
    if not FORM.fullmatch(signature):
        return None
    if not signature.startswith(NAME):
        return thought
    try:
        raw = urlsafe_b64decode(signature.removeprefix(NAME) + "==")
    except Error:
        return None
    if raw[: len(KEY_ID)] != KEY_ID:
        return thought
    digest, sealed = raw[len(KEY_ID) :][:DIGEST], raw[len(KEY_ID) + DIGEST :]
    own = _digest(SEALING_KEY, sealed) if sealed else _digest(KEY, thought.encode())
    if not hmac.compare_digest(digest, own):
        return None
    return zlib.decompress(sealed).decode() if sealed else thought


def _digest(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")[:DIGEST]


def _written(digest: bytes, sealed: bytes = b"") -> str:
    return NAME + urlsafe_b64encode(KEY_ID + digest + sealed).decode()
