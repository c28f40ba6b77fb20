"""Streams' bytes to events, cut anywhere; the standard's own examples, and the official parsers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from bessemer.http.framing import FRAMINGS
from bessemer.http.gateway.unframing import UNFRAMERS, JsonLines, ServerSentEvents, Unframer
from bessemer.translate.dialect import ServerEvent


def read(unframer: Unframer, *pieces: bytes) -> list[tuple[str | None, bytes]]:
    events = [event for piece in pieces for event in unframer.feed(piece)]
    return [(event.name, event.data) for event in (*events, *unframer.end())]


# The examples of section 9.2.6 of the standard, and what it says of line ends, fields and BOMs.
EXAMPLES: list[tuple[bytes, list[tuple[str | None, bytes]]]] = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [(None, b"YHOO\n+2\n10")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
        b"data:  third event\n\n",
        [(None, b"first event"), (None, b"second event"), (None, b" third event")],
    ),
    (b"data\n\ndata\ndata\n\n", [(None, b""), (None, b"\n")]),
    (b"data:test\n\ndata: test\n\n", [(None, b"test"), (None, b"test")]),
    (b"event: add\ndata: 1\n\nevent: remove\ndata: 2\n\n", [("add", b"1"), ("remove", b"2")]),
    (b"\xef\xbb\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n", [(None, b"1")]),
    (b"event: lost\n\ndata: 1\n\n", [(None, b"1")]),
    (b"DATA: 1\nretry: 10\nnone\ndata: 2: 3\n\n", [(None, b"2: 3")]),
    (b"event: a\nevent: \xc3\xa4\ndata: \xe2\x80\xa8\n\n", [("ä", b"\xe2\x80\xa8")]),
    (b"data: [DONE]\n", [(None, b"[DONE]")]),
    (b"data: [DONE]", [(None, b"[DONE]")]),
    (b"", []),
]


@pytest.mark.parametrize(("stream", "events"), EXAMPLES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_of_the_standard(
    stream: bytes, events: list[tuple[str | None, bytes]], end: bytes
) -> None:
    stream = stream.replace(b"\n", end)
    letters = [stream[at : at + 1] for at in range(len(stream))]
    assert read(ServerSentEvents(), stream) == events
    assert read(ServerSentEvents(), *letters) == events
    assert (
        read(ServerSentEvents(), *[each for letter in letters for each in (letter, b"")]) == events
    )
    for at in range(len(stream)):
        assert read(ServerSentEvents(), stream[:at], stream[at:]) == events


LINES = st.sampled_from(
    [b"data: x", b"data:", b"data", b":c", b"", b"event: e", b"id: 7", b"data:  y", b"retry: 1"]
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]))), st.data())
def test_events_are_those_that_the_official_package_reads(
    lines: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(map(b"".join, lines)) + b"\n\n"
    at = data.draw(st.integers(0, len(stream)))
    theirs = list(SSEDecoder().iter_bytes(iter([stream])))
    ours = read(ServerSentEvents(), stream[:at], stream[at:])
    # Theirs also tells of events without data, which the standard does not.
    expected = [(each.event, each.data.encode()) for each in theirs]
    named = [each for each in ours if each[1]]
    assert named == [each for each in expected if each[1]]


def test_lines_of_json() -> None:
    stream = b'{"a": 1}\r\n\n  \n{"b":"\xe2\x80\xa8\x0b"}\n{"c":3}'
    events = [(None, b'{"a": 1}'), (None, b'{"b":"\xe2\x80\xa8\x0b"}'), (None, b'{"c":3}')]
    assert read(JsonLines(), stream) == events
    assert read(JsonLines(), *(stream[at : at + 1] for at in range(len(stream)))) == events


@pytest.mark.parametrize("framing", ["sse", "ndjson"])
def test_what_we_frame_is_read_again(framing: str) -> None:
    sent = [ServerEvent(b'{"a":1}', "x"), ServerEvent(b"", comment=True), ServerEvent(b"{}")]
    framer = FRAMINGS[framing]()  # type: ignore[index]
    stream = b"".join(map(framer.frame, sent)) + framer.end()
    unframer = UNFRAMERS[framing]()  # type: ignore[index]
    name = "x" if framing == "sse" else None
    assert read(unframer, stream) == [(name, b'{"a":1}'), (None, b"{}")]


def test_events_are_bounded_and_comments_are_none() -> None:
    few = ServerSentEvents(largest=32)
    assert not [event for _ in range(9) for event in few.feed(b": keep-alive\n")]
    assert few.feed(b"data: 1\n\n" * 9) == [ServerEvent(b"1")] * 9
    for stream in (b"data: " + b"x" * 40, b"data: x\n" * 9, b"event: e\n" + b":cccccccc\n" * 4):
        for pieces in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
            with pytest.raises(ValueError, match="over 32 bytes"):
                read(ServerSentEvents(largest=32), *pieces)
    with pytest.raises(ValueError, match="over 32 bytes"):
        read(JsonLines(largest=32), b"[" * 20, b"[" * 20)
    assert len(read(JsonLines(largest=8), b"[1234]\n" * 9)) == 9
