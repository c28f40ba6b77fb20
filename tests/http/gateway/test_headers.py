"""Headers that go on, and when a provider may be asked again."""

import time
from email.utils import formatdate
from typing import Any

import pytest

from bessemer.http.gateway.headers import asking, passed_down, passed_up, retry_after
from bessemer.http.gateway.provider import Provider
from tests.http.gateway.plain import plain


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7),
        (b" 6.2 ", 7),
        (b"0", 0),
        (b"99999999", 10**6),
        (b"-3", None),
        (b"soon", None),
        (b"nan", None),
        (b"", None),
        (b"Wed, 21 Oct 2015 07:28:00 GMT", 0),
        (b"Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_a_provider_says_when_to_ask_again(value: bytes, seconds: int | None) -> None:
    assert retry_after(((b"x", b"1"), (b"retry-after", value))) == seconds


def test_a_date_and_milliseconds_are_times_too() -> None:
    date = formatdate(time.time() + 1000, usegmt=True).encode()
    found = retry_after(((b"retry-after", date),))
    assert found is not None and 900 < found <= 1001
    both = ((b"retry-after", b"9"), (b"retry-after-ms", b"1500"))
    assert retry_after(both) == 2
    assert retry_after(()) is None


def settings(**about: Any) -> Provider:
    return Provider(name="far", url="http://h", **about)


def test_a_header_that_is_there_twice_goes_on_whole() -> None:
    sent = ((b"anthropic-beta", b"a"), (b"x", b"1"), (b"anthropic-beta", b"b"))
    up = dict(passed_up(sent, plain("anthropic"), settings()))
    assert up[b"anthropic-beta"] == b"a, b" and up[b"x"] == b"1"
    assert up[b"anthropic-version"] == b"2023-06-01"
    down = ((b"link", b"a"), (b"link", b"b"), (b"connection", b"close, X-Own"), (b"x-own", b"1"))
    assert passed_down(down) == ((b"link", b"a"), (b"link", b"b"))


def test_settings_come_before_all_else() -> None:
    about = settings(api_key="k", headers={"User-Agent": "us", "AUTHORIZATION": "Own x"})
    for headers in (
        asking("", False, plain(), about),
        passed_up(((b"user-agent", b"theirs"), (b"authorization", b"Bearer y")), plain(), about),
    ):
        assert dict(headers)[b"user-agent"] == b"us"
        assert dict(headers)[b"authorization"] == b"Own x"
        assert len(headers) == len(dict(headers))


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_asked_of_our_own_says_what_it_takes(stream: bool) -> None:
    kinds = {b"sse": b"text/event-stream", b"ndjson": b"application/json"}
    for format in ("openai", "ollama"):
        upstream = plain(format)  # type: ignore[arg-type]
        accept = dict(asking("k", stream, upstream, settings()))[b"accept"]
        assert accept == (kinds[upstream.framing.encode()] if stream else b"application/json")
