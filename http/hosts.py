"""The names that a server without keys answers to: a page cannot reach it by a rebound one.

A page's own name may come to mean this machine (DNS rebinding), which makes its requests
same-origin. No page of the internet's owns an address, a name without a dot, or one that ends in
what is reserved for local use; those and this machine's name are what clients here use.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence

from ..engine.request import Refusal
from .message import HttpRequest

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d*)?")
RESERVED = (".localhost", ".local", ".internal")  # RFC 6761, RFC 6762, ICANN 2024


class Hosts:
    """The names in `allowed`, * for any, beside those that are safe."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        names = (*allowed, socket.gethostname())
        self._allowed = frozenset(name.lower().rstrip(".") for name in names)

    def check(self, request: HttpRequest) -> None:
        host = (request.header(b"host") or b"").decode("latin-1").lower()
        if not host or "*" in self._allowed:  # every browser says a host
            return
        match = HOST.fullmatch(host)
        name = match[1].rstrip(".") if match else ""
        if not name or not self._safe(name):
            raise Refusal(
                403,
                "host_not_allowed",
                f"This server does not answer to the name {name or host!r:.80}; "
                "--allowed-host adds one.",
            )

    def _safe(self, name: str) -> bool:
        return (
            name in self._allowed
            or ("." not in name and ":" not in name)
            or name.endswith(RESERVED)
            or _is_address(name.strip("[]"))
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
