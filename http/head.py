"""A request's head: from h11's words to ours, and what its framing says of the body to come."""

import os
import re

import h11

from ..engine.request import Refusal
from .body import Body
from .message import Headers, HttpRequest

LINES = 200  # of a header; h11 takes 2 microseconds for each
BLANK = re.compile(rb"\n\r?\n")


def check_header(data: bytes) -> None:
    """Refuse a header, whole or not, of too many lines. Raises Refusal."""
    end = BLANK.search(data)
    if data.count(b"\n", 0, end.start() + 1 if end else len(data)) > LINES:
        text = f"The request's header has more than {LINES} lines."
        raise Refusal(431, "bad_request", text)


def asked(head: h11.Request, body: Body, client: str) -> HttpRequest:
    """Return the request that begins with this head, under a new id."""
    authority, path, query = split_target(head.target.decode("ascii"))
    headers = tuple(head.headers)
    if authority:  # which counts, not Host (RFC 9112, section 3.2.2)
        others = (header for header in headers if header[0] != b"host")
        headers = ((b"host", authority.encode()), *others)
    return HttpRequest(head.method.decode("ascii"), path, query, headers, body, client, new_id())


def unread(client: str) -> HttpRequest:
    """Return what stands for a request of which nothing could be read."""
    return HttpRequest("", "", "", (), Body(), client, new_id())


def split_target(target: str) -> tuple[str, str, str]:
    """Return a request target's authority, which only absolute forms have, its path and query."""
    authority = ""
    if not target.startswith("/") and "://" in target:
        rest = target.partition("://")[2]
        end = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
        authority, target = rest[:end], "/" + rest[end:].removeprefix("/")
    path, _, query = target.partition("?")
    return authority, path, query


def framed_length(headers: Headers, version: bytes) -> int:
    """Return a body's declared length, -1 if its chunks will tell it. Raises Refusal."""
    named = dict(headers)
    if b"transfer-encoding" not in named:
        return int(named.get(b"content-length", b"0"))
    if b"content-length" in named or version < b"1.1":  # smuggling (RFC 9112, section 6.1)
        text = "Malformed HTTP: Transfer-Encoding beside Content-Length, or in HTTP/1.0."
        raise Refusal(400, "bad_request", text)
    return -1


def new_id() -> str:
    return "req_" + os.urandom(12).hex()
