"""A request's head: its target, and what its framing says of the body."""

import h11
import pytest

from bessemer.engine.request import Refusal
from bessemer.http.body import Body
from bessemer.http.head import LINES, asked, check_header, framed_length, split_target


def test_absolute_targets() -> None:
    assert split_target("http://h:1/a/b?c=d?e") == ("h:1", "/a/b", "c=d?e")
    assert split_target("http://h") == ("h", "/", "")
    assert split_target("http:///a") == ("", "/a", "")
    assert split_target("http://h?a=/b") == ("h", "/", "a=/b")
    assert split_target("/a?u=http://h") == ("", "/a", "u=http://h")
    assert split_target("*") == ("", "*", "")


def test_an_absolute_target_names_the_host() -> None:
    head = h11.Request(
        method="GET", target="http://evil.example/a", headers=[("Host", "localhost")]
    )
    request = asked(head, Body(), "192.0.2.7")
    assert (request.path, request.headers) == ("/a", ((b"host", b"evil.example"),))


def test_the_length_that_a_head_tells() -> None:
    length, chunked = (b"content-length", b"5"), (b"transfer-encoding", b"chunked")
    assert framed_length((), b"1.1") == 0
    assert framed_length((length,), b"1.0") == 5
    assert framed_length((chunked,), b"1.1") == -1
    for headers, version in (((length, chunked), b"1.1"), ((chunked,), b"1.0")):
        with pytest.raises(Refusal, match="Transfer-Encoding"):
            framed_length(headers, version)


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_header_has_a_limit_of_lines(end: str) -> None:
    line = f"a: b{end}"
    whole = f"GET / HTTP/1.1{end}{line * (LINES - 1)}{end}".encode()
    check_header(whole[:-1])
    check_header(whole + b"\n" * 1000)  # what comes after it is no part of it
    for more in (line, line * LINES):
        with pytest.raises(Refusal) as caught:
            check_header(whole.replace(line.encode(), line.encode() + more.encode(), 1))
        assert caught.value.status == 431
