"""Framings, byte for byte."""

import json

import pytest

from bessemer.http.framing import FRAMINGS
from bessemer.translate.dialect import COMMENT, Framing, ServerEvent

DONE = ServerEvent(b"[DONE]", mark=True)


def body(framing: Framing, *events: ServerEvent) -> bytes:
    framer = FRAMINGS[framing]()
    return b"".join([*map(framer.frame, events), framer.end()])


def test_server_sent_events() -> None:
    assert body("sse", ServerEvent(b'{"a":1}')) == b'data: {"a":1}\n\n'
    assert body("sse", DONE) == b"data: [DONE]\n\n"
    assert body("sse", ServerEvent(b"{}", "ping")) == b"event: ping\ndata: {}\n\n"
    assert FRAMINGS["sse"].media_type == b"text/event-stream; charset=utf-8"


def test_lines() -> None:
    assert body("ndjson", ServerEvent(b"{}", "ping"), ServerEvent(b"1"), DONE) == b"{}\n1\n"


def test_lines_with_a_last_one_that_says_so() -> None:
    """R4.3: as mlx-router's json_lines end."""
    assert body("json_lines", ServerEvent(b"1"), COMMENT, DONE) == b'1\n{"done":true}\n'


def test_a_comment_is_only_for_those_that_have_comments() -> None:
    one = ServerEvent(b"1")
    assert body("sse", COMMENT, one) == b": \n\ndata: 1\n\n"
    assert body("ndjson", COMMENT, one, COMMENT) == b"1\n"
    assert body("json", COMMENT, one, COMMENT) == b"[1]"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_one_document(count: int) -> None:
    events = [ServerEvent(b'{"n":%d}' % n) for n in range(count)]
    assert json.loads(body("json", *events, DONE)) == [{"n": n} for n in range(count)]
    assert json.loads(body("json", DONE, *events)) == [{"n": n} for n in range(count)]
