"""API keys: where they may stand, and who a client then is."""

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.auth import Auth
from bessemer.http.body import Body
from bessemer.http.message import HttpRequest


def request(*headers: tuple[bytes, bytes]) -> HttpRequest:
    return HttpRequest("GET", "/", "", headers, Body(), "192.0.2.7", "req_1")


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer one"),
        (b"authorization", b"bearer  one "),
        (b"authorization", b"Bearer tw\xc3\xb6"),
        (b"x-api-key", b"one"),
    ],
)
def test_known_keys(header: tuple[bytes, bytes]) -> None:
    assert Auth(["one", "twö"]).caller(request(header)).startswith("key:")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ((b"authorization", b"Bearer three"), "invalid_api_key"),
        ((b"authorization", b"Bearer on"), "invalid_api_key"),
        ((b"authorization", b"Bearer onee"), "invalid_api_key"),
        ((b"authorization", b"Basic one"), "missing_api_key"),
        ((b"authorization", b"Bearer"), "missing_api_key"),
        ((b"authorization", b"Bearer "), "missing_api_key"),
        ((b"authorization", b"one"), "missing_api_key"),
        ((b"x-api-key", b""), "missing_api_key"),
        ((b"x-other", b"one"), "missing_api_key"),
    ],
)
def test_strangers(header: tuple[bytes, bytes], code: str) -> None:
    with pytest.raises(Refusal) as caught:
        Auth(["one"]).caller(request(header))
    assert (caught.value.status, caught.value.code) == (401, code)
    assert "three" not in caught.value.message


def test_a_caller_is_its_key_not_its_spelling() -> None:
    auth = Auth(["one", "two"])
    first = auth.caller(request((b"authorization", b"Bearer one")))
    assert first == auth.caller(request((b"x-api-key", b"one")))
    assert first != auth.caller(request((b"x-api-key", b"two")))
    assert "one" not in first


def test_without_keys_a_caller_is_its_address_whatever_it_sends() -> None:
    assert Auth([]).caller(request((b"x-api-key", b"any"))) == "192.0.2.7"
