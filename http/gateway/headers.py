"""Headers between a client and a provider: what goes on, either way, and whose key.

What concerns one connection alone never does (RFC 9110, section 7.6.1), and no key but one: the
provider's own, or else the client's, in the header that the provider's dialect has for it. A key of
this server's own was taken out when its client was admitted (http/auth.py).
"""

import math
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime

from ...translate.upstream.upstream import Upstream
from ..auth import KEYS, key_of
from ..message import Headers
from .provider import Provider

# Of one connection, or of how a body travels there.
HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade content-length content-encoding".split()
)
# What a client sends to this server alone: its address and page, keys, how it would have the body.
UP = HOP | KEYS | {b"host", b"accept-encoding", b"expect", b"cookie", b"origin", b"referer"}
UP |= {b"forwarded", b"api-key", b"x-goog-api-key"}
# What a provider says of itself, or to a browser.
DOWN = HOP | frozenset(
    b"set-cookie server date alt-svc via strict-transport-security x-content-type-options "
    b"x-frame-options report-to nel content-security-policy".split()
)
ACCESS, FORWARDED, SEC = b"access-control-", b"x-forwarded-", b"sec-"
SECONDS = re.compile(rb"\d{1,9}(\.\d*)?")
LONGEST = 10**6  # seconds that a client may be told to wait


def passed_up(headers: Headers, upstream: Upstream, provider: Provider) -> Headers:
    """Return the headers that a client's request goes on with."""
    listed, kept = _listed(headers), dict(upstream.headers)
    theirs: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in UP and name not in listed and not name.startswith((FORWARDED, SEC)):
            theirs[name] = theirs[name] + b", " + value if name in theirs else value
    sent = tuple(header for header in headers if header[0] in KEYS)
    carried = sent if provider.pass_auth else ()
    return _settled(kept | theirs, carried or _carried(key_of(sent), upstream, provider), provider)


def asking(key: str, stream: bool, upstream: Upstream, provider: Provider) -> Headers:
    """Return the headers of a request of our own, made for a client with this key."""
    accept = b"text/event-stream" if stream and upstream.framing == "sse" else b"application/json"
    own = {b"content-type": b"application/json", b"accept": accept, b"user-agent": b"bessemer"}
    return _settled(own | dict(upstream.headers), _carried(key, upstream, provider), provider)


def _carried(key: str, upstream: Upstream, provider: Provider) -> Headers:
    """Return the header with the key that a provider is asked with for a client with this one."""
    passing = key if provider.pass_auth else ""
    chosen = passing or provider.api_key or ("" if provider.strip_auth else key)
    return (upstream.authorization(chosen),) if chosen else ()


def _settled(headers: Mapping[bytes, bytes], key: Headers, provider: Provider) -> Headers:
    """Return the headers with those of the settings, which come before all others."""
    given = {name.lower().encode(): value.encode() for name, value in provider.headers.items()}
    return tuple({**headers, b"accept-encoding": b"identity", **dict(key), **given}.items())


def passed_down(headers: Headers) -> Headers:
    """Return the headers that a provider's answer goes on with."""
    listed = _listed(headers)
    return tuple(
        (name, value)
        for name, value in headers
        if name not in DOWN and name not in listed and not name.startswith(ACCESS)
    )


def _listed(headers: Headers) -> frozenset[bytes]:
    """Return the headers that Connection names, which are of one connection as well."""
    values = (value for name, value in headers if name == b"connection")
    return frozenset(each.strip().lower() for value in values for each in value.split(b","))


def retry_after(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return the whole seconds after which a provider may be asked again, if it says so."""
    named = dict(headers)
    if SECONDS.fullmatch(milliseconds := named.get(b"retry-after-ms", b"")):
        return _bounded(float(milliseconds) / 1000)
    value = named.get(b"retry-after", b"").strip()
    if SECONDS.fullmatch(value):
        return _bounded(float(value))
    try:
        return _bounded(parsedate_to_datetime(value.decode("latin-1")).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _bounded(seconds: float) -> int:
    return math.ceil(min(max(seconds, 0), LONGEST))
