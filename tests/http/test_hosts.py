"""The names that a server without keys answers to."""

import socket

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.body import Body
from bessemer.http.hosts import Hosts
from bessemer.http.message import HttpRequest


def asked(*host: str) -> HttpRequest:
    headers = tuple((b"host", each.encode()) for each in host)
    return HttpRequest("GET", "/", "", headers, Body(), "127.0.0.1", "req_1")


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LocalHost.", "127.0.0.1:8000", "[::1]:8000", "[::1]"),
        *("10.0.0.7", "192.168.1.9:1", "mac", "mac.local", "api.internal:80", "a.localhost"),
        socket.gethostname(),
    ],
)
def test_names_that_no_page_can_own(host: str) -> None:
    Hosts().check(asked(host))


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("evil.local.com", "127.0.0.1@evil.example", "a b.example", "x/y", ".", "[evil.example]"),
    ],
)
def test_names_that_a_page_may_have_rebound(host: str) -> None:
    with pytest.raises(Refusal) as caught:
        Hosts().check(asked(host))
    assert (caught.value.status, caught.value.code) == (403, "host_not_allowed")
    assert "--allowed-host" in caught.value.message


def test_what_an_operator_allows() -> None:
    Hosts(("Models.Example",)).check(asked("models.example:443"))
    with pytest.raises(Refusal):
        Hosts(("models.example",)).check(asked("other.example"))
    Hosts(("*",)).check(asked("anything.example"))


def test_http_1_0_needs_no_host() -> None:
    Hosts().check(asked())
