"""The names a server answers to: those that no page can have as its own."""

import socket

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.body import Body
from bessemer.http.hosts import Hosts
from bessemer.http.message import HttpRequest


def request(*hosts: str) -> HttpRequest:
    headers = tuple((b"host", host.encode("latin-1")) for host in hosts)
    return HttpRequest("GET", "/", "", headers, Body(), "127.0.0.1", "req_1")


@pytest.mark.parametrize(
    "host",
    ["localhost:8000", "127.0.0.1:80", "192.0.2.7", "[::1]:8000", "LOCALHOST.", "mac.local", "box"],
)
def test_names_that_no_page_owns_are_safe(host: str) -> None:
    Hosts().check(request(host))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example:8000",
        "127.0.0.1.evil.example",
        "evillocal.example",
        "a b",
        "user@localhost",
        "localhost/x",
        "127.0.0.1:80:80",
        "\xe9.local",
    ],
)
def test_names_of_others_are_refused(host: str) -> None:
    with pytest.raises(Refusal) as caught:
        Hosts().check(request(host))
    assert (caught.value.status, caught.value.code) == (403, "host_not_allowed")


def test_more_names_are_allowed_on_request() -> None:
    Hosts(("API.example.",)).check(request("api.example:443"))
    Hosts(("*",)).check(request("evil.example"))
    Hosts().check(request(socket.gethostname()))
    Hosts().check(request())
    with pytest.raises(Refusal):
        Hosts(("api.example",)).check(request("x.api.example"))
