"""Server-sent events, byte for byte."""

from bessemer.http.sse import frame
from bessemer.translate.chat import ServerEvent


def test_frames() -> None:
    assert frame(ServerEvent(b'{"a":1}')) == b'data: {"a":1}\n\n'
    assert frame(ServerEvent(b"[DONE]")) == b"data: [DONE]\n\n"
    assert frame(ServerEvent(b"{}", "ping")) == b"event: ping\ndata: {}\n\n"
