"""Cross-origin headers: none unless asked for, and never for a stranger."""

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.body import Body
from bessemer.http.cors import Cors
from bessemer.http.message import HttpRequest

ORIGIN = (b"origin", b"https://app.example")
ASKS = (b"access-control-request-method", b"POST")


def request(method: str, *headers: tuple[bytes, bytes]) -> HttpRequest:
    return HttpRequest(method, "/v1/models", "", headers, Body(), "127.0.0.1", "req_1")


def test_off_by_default() -> None:
    cors = Cors(())
    assert cors.headers(request("GET", ORIGIN)) == ()
    assert cors.preflight(request("OPTIONS", ORIGIN, ASKS)) is None


@pytest.mark.parametrize("origins", [("https://app.example",), ("https://app.example/",), ("*",)])
def test_an_allowed_origin(origins: tuple[str, ...]) -> None:
    headers = dict(Cors(origins).headers(request("GET", ORIGIN)))
    assert headers[b"access-control-allow-origin"] == b"https://app.example"
    assert b"retry-after" in headers[b"access-control-expose-headers"]
    assert headers[b"vary"] == b"origin"


@pytest.mark.parametrize("origin", [b"https://app.example.evil", b"http://app.example", b"null"])
def test_a_stranger(origin: bytes) -> None:
    cors = Cors(("https://app.example",))
    assert cors.headers(request("GET", (b"origin", origin))) == ((b"vary", b"origin"),)
    with pytest.raises(Refusal) as caught:
        cors.preflight(request("OPTIONS", (b"origin", origin), ASKS))
    assert caught.value.status == 403


def test_a_request_without_an_origin() -> None:
    assert Cors(("*",)).headers(request("GET")) == ((b"vary", b"origin"),)


def test_preflight() -> None:
    cors = Cors(("https://app.example",))
    names = (b"access-control-request-headers", b"authorization, content-type")
    reply = cors.preflight(request("OPTIONS", ORIGIN, ASKS, names))
    assert reply is not None and (reply.status, reply.body) == (204, b"")
    headers = dict(reply.headers)
    assert headers[b"access-control-allow-headers"] == b"authorization, content-type"
    assert b"POST" in headers[b"access-control-allow-methods"]
    assert cors.preflight(request("OPTIONS", ORIGIN)) is None
    assert cors.preflight(request("GET", ORIGIN, ASKS)) is None


HOST = (b"host", b"localhost:8000")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"sec-fetch-site", b"none"),),
        ((b"sec-fetch-site", b"same-origin"), ORIGIN),
        ((b"origin", b"http://localhost:8000"),),
        ((b"origin", b"https://good.example"), (b"sec-fetch-site", b"cross-site")),
    ],
)
def test_who_may_call(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    Cors(("https://good.example",)).check(request("POST", HOST, *headers))


@pytest.mark.parametrize(
    "headers",
    [
        (ORIGIN,),
        ((b"origin", b"null"),),
        ((b"origin", b"http://localhost:9"),),
        ((b"sec-fetch-site", b"cross-site"),),
        (ORIGIN, (b"sec-fetch-site", b"cross-site")),
    ],
)
def test_pages_of_others_are_refused(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(Refusal) as caught:
        Cors(()).check(request("POST", HOST, *headers))
    assert (caught.value.status, caught.value.code) == (403, "origin_not_allowed")


@pytest.mark.parametrize("network", [b"private-network", b"local-network"])
def test_a_page_that_reaches_into_a_network_asks_for_it(network: bytes) -> None:
    asks = (b"access-control-request-" + network, b"true")
    reply = Cors(("*",)).preflight(request("OPTIONS", ORIGIN, ASKS, asks))
    assert reply is not None
    assert dict(reply.headers)[b"access-control-allow-" + network] == b"true"
    reply = Cors(("*",)).preflight(request("OPTIONS", ORIGIN, ASKS))
    assert reply is not None and b"access-control-allow-" + network not in dict(reply.headers)
