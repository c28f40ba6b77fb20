"""Tests of what a handler receives and returns."""

import pytest

from bessemer.http.body import Body
from bessemer.http.message import HttpRequest, Response, StreamingResponse
from tests.http.wire import counting


def test_a_header_is_the_first_of_its_name() -> None:
    headers = ((b"host", b"x"), (b"accept", b"a"), (b"accept", b"b"), (b"empty", b""))
    request = HttpRequest("GET", "/", "", headers, Body(), "192.0.2.7", "req_1")
    assert request.header(b"accept") == b"a" and request.header(b"empty") == b""
    assert request.header(b"cookie") is None and request.caller == ""


def test_a_request_cannot_be_changed() -> None:
    request = HttpRequest("GET", "/", "", (), Body(), "192.0.2.7", "req_1")
    with pytest.raises(AttributeError):
        request.caller = "key:a"  # type: ignore[misc]


def test_a_response_is_json_and_a_stream_what_it_says() -> None:
    assert Response(200, b"{}").headers == ((b"content-type", b"application/json"),)
    assert (StreamingResponse(counting(1)).status, StreamingResponse(counting(1)).headers) == (
        200,
        (),
    )
