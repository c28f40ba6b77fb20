"""The formats of OpenAI's streams, by a request's field and by the server's settings."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from bessemer.http.hub import BUILT_IN
from tests.http.running import Server, serving

ASK: dict[str, Any] = {
    "model": "bessemer-guide", "messages": [{"role": "user", "content": "Hi"}], "stream": True,
    "seed": 3, "max_tokens": 10, "ignore_eos": True,
}  # fmt: skip
CHUNK = 4
GUIDE = ("--model", f"bessemer-guide={BUILT_IN}")


@pytest.fixture(scope="module")
def set_server() -> Iterator[Server]:
    with serving(
        *GUIDE, "--stream-format", "json_lines", "--stream-chunk-size", str(CHUNK)
    ) as running:
        yield running


def ask(server: Server, path: str = "/v1/chat/completions", **fields: Any) -> tuple[str, bytes]:
    with closing(server.connect()) as connection:
        connection.request("POST", path, json.dumps(ASK | fields))
        response = connection.getresponse()
        data = response.read()
    assert response.status == 200, data
    return (response.getheader("content-type") or "").partition(";")[0], data


def texts(lines: list[dict[str, Any]]) -> list[str]:
    """Return the texts of a stream's pieces, whose last line says that it is over."""
    *chunks, done = lines
    assert done == {"done": True} and {each["object"] for each in chunks} == {
        "chat.completion.chunk"
    }
    return [text for each in chunks if (text := each["choices"][0]["delta"].get("content"))]


def lines(data: bytes) -> list[dict[str, Any]]:
    return [*map(json.loads, data.splitlines())]


def test_three_formats_say_the_same(server: Server) -> None:
    """R4.3: sse, json_lines and json_array, each with the type that it is."""
    kind, sse = ask(server)
    assert kind == "text/event-stream" and sse.endswith(b"data: [DONE]\n\n")
    assert ask(server, stream_format="sse")[0] == kind
    kind, data = ask(server, stream_format="json_lines")
    assert kind == "application/x-ndjson"
    pieces = texts(lines(data))
    events = [json.loads(line[6:]) for line in sse.splitlines() if line.startswith(b"data: {")]
    assert texts([*events, {"done": True}]) == pieces
    kind, data = ask(server, stream_format="json_array")
    whole = json.loads(data)
    assert kind == "application/json" and whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["content"] == "".join(pieces)
    assert whole["usage"]["completion_tokens"] == 10
    assert ask(server, "/v1/completions", prompt="Hi", stream_format="json_lines")[1].endswith(
        b'{"done":true}\n'
    )


def test_pieces_of_several_tokens(server: Server) -> None:
    """R4.4: real streaming in pieces of so many tokens, not a finished text cut up."""
    fields = {"stream_format": "json_lines", "logprobs": True, "stream_chunk_size": CHUNK}
    *chunks, _ = lines(ask(server, **fields)[1])
    counts = [
        len(each["choices"][0]["logprobs"]["content"])
        for each in chunks
        if each["choices"][0]["logprobs"]
    ]
    assert counts == [CHUNK, CHUNK, 10 - 2 * CHUNK]
    single = texts(lines(ask(server, stream_format="json_lines")[1]))
    large = texts(lines(ask(server, stream_format="json_lines", stream_chunk_size=99)[1]))
    assert large == ["".join(single)]


def test_settings_stand_for_what_a_request_leaves_open(set_server: Server) -> None:
    """R3.1: streaming_format and stream_chunk_size are settings too, and a request's field wins."""
    kind, data = ask(set_server)
    pieces = texts(lines(data))
    assert kind == "application/x-ndjson" and len(pieces) <= -(-10 // CHUNK)
    kind, sse = ask(set_server, stream_format="sse", stream_chunk_size=1)
    assert kind == "text/event-stream" and sse.count(b'"content":') > len(pieces)
    assert json.loads(ask(set_server, stream_format="json_array")[1])["object"] == "chat.completion"
    # Other dialects' streams are what they are; their pieces are larger too.
    kind, data = ask(set_server, "/v1/messages")
    assert kind == "text/event-stream" and b"message_stop" in data
    kind, data = ask(set_server, "/api/chat", options={"num_predict": 10, "seed": 3})
    assert kind == "application/x-ndjson" and lines(data)[-1]["done"] is True
    assert len(lines(data)) <= -(-10 // CHUNK) + 1


@pytest.mark.parametrize(
    "fields", [{"stream_format": "xml"}, {"stream_chunk_size": 0}, {"stream_chunk_size": "4"}]
)
def test_what_is_none_of_them_is_refused_by_name(server: Server, fields: dict[str, Any]) -> None:
    status, body, _ = server.ask("POST", "/v1/chat/completions", ASK | fields)
    assert status == 400 and body["error"]["param"] in fields
