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


def test_what_a_page_of_another_site_sends_is_refused_before_it_costs() -> None:
    own = Cors(())
    for headers in (
        {b"origin": b"https://evil.example"},
        {b"origin": b"null"},
        {b"origin": b"http://127.0.0.1:9999"},  # another port is another origin
        {b"origin": b"https://evil.example", b"sec-fetch-site": b"cross-site"},
        {b"sec-fetch-site": b"cross-site"},
    ):
        with pytest.raises(Refusal) as caught:
            own.check(post(headers))
        assert (caught.value.status, caught.value.code) == (403, "origin_not_allowed")


def test_other_clients_and_pages_of_this_server_pass() -> None:
    for headers in (
        {},
        {b"origin": b"http://127.0.0.1:8000"},
        {b"origin": b"http://127.0.0.1:8000", b"sec-fetch-site": b"same-origin"},
        {b"sec-fetch-site": b"none"},
    ):
        Cors(()).check(post(headers))
    Cors(("https://app.example",)).check(post({b"origin": b"https://app.example"}))
    Cors(("*",)).check(post({b"origin": b"https://anything.example"}))


def test_a_link_from_another_site_may_be_followed() -> None:
    """What only reads costs nothing, and a page cannot see the answer."""
    Cors(()).check(post({b"sec-fetch-site": b"cross-site"}, "GET"))


def test_a_page_that_reaches_into_a_network_is_answered_if_it_may_call() -> None:
    asks = {
        b"origin": b"https://app.example",
        b"access-control-request-method": b"POST",
        b"access-control-request-private-network": b"true",
    }
    reply = Cors(("https://app.example",)).preflight(post(asks, "OPTIONS"))
    assert reply is not None
    assert (b"access-control-allow-private-network", b"true") in reply.headers
    with pytest.raises(Refusal):
        Cors(("https://other.example",)).preflight(post(asks, "OPTIONS"))


def post(headers: dict[bytes, bytes], method: str = "POST") -> HttpRequest:
    all_headers = ((b"host", b"127.0.0.1:8000"), *headers.items())
    return HttpRequest(method, "/v1/completions", "", all_headers, Body(), "127.0.0.1", "req_1")


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        (b"http://localhost:8000", b"localhost:8000", True),
        (b"https://LLM.example", b"llm.example:443", True),  # the scheme's port may be left out
        (b"http://llm.example:80", b"llm.example", True),
        (b"https://llm.example", b"llm.example:80", False),
        (b"http://localhost:8001", b"localhost:8000", False),
        (b"http://evil.example", b"llm.example", False),
        (b"file://llm.example", b"llm.example", False),
        (b"http://", b"", False),
        (b"null", b"null", False),
        (b"http://[::1", b"[::1", False),
        (b"http://\xff", b"\xff", False),
    ],
)
def test_a_page_of_another_origin_changes_nothing(origin: bytes, host: bytes, same: bool) -> None:
    asked = request("POST", (b"origin", origin), (b"host", host))
    if same:
        Cors(()).check(asked)
        return
    with pytest.raises(Refusal) as caught:
        Cors(()).check(asked)
    assert (caught.value.status, caught.value.code) == (403, "origin_not_allowed")


@pytest.mark.parametrize("site", [b"same-origin", b"none"])
def test_a_browser_that_says_whence_a_request_comes_is_believed(site: bytes) -> None:
    elsewhere = (ORIGIN, (b"host", b"llm.example"))
    Cors(()).check(request("POST", (b"sec-fetch-site", site), *elsewhere))
    Cors(("https://app.example",)).check(request("POST", *elsewhere))
    Cors(()).check(request("POST"))
    for headers in (elsewhere, ()):
        with pytest.raises(Refusal):
            Cors(()).check(request("POST", (b"sec-fetch-site", b"cross-site"), *headers))
