"""What holds for every upstream."""

import json
from typing import get_args

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Chat, GenerationOptions, Message
from bessemer.translate.dialect import ServerEvent
from bessemer.translate.parts import said
from bessemer.translate.upstream.table import UPSTREAMS
from bessemer.translate.upstream.upstream import Format, Upstream

ALL = pytest.mark.parametrize("upstream", UPSTREAMS.values(), ids=lambda each: each.format)
ASK = Message("user", said("Hi"))


def test_there_is_one_for_each_format() -> None:
    assert {*UPSTREAMS} == {*get_args(Format)}
    assert all(name == each.format for name, each in UPSTREAMS.items())


@ALL
@pytest.mark.parametrize("stream", [True, False])
def test_a_request_names_the_model_and_whether_it_streams(upstream: Upstream, stream: bool) -> None:
    chat = Chat("a/b", (ASK,), GenerationOptions(5, stream=stream))
    body = json.loads(upstream.encode_request(chat, False))
    assert body["model"] == "a/b" and bool(body.get("stream")) == stream
    assert "Hi" in json.dumps(body) and "5" in json.dumps(body)


@ALL
def test_what_none_of_them_can_say_is_refused_or_left_out(upstream: Upstream) -> None:
    chat = Chat("m", (ASK,), GenerationOptions(5, bad_words=("no",)))
    with pytest.raises(Refusal) as caught:
        upstream.encode_request(chat, False)
    assert (caught.value.status, caught.value.field) == (400, "bad_words")
    assert b"bad_words" not in upstream.encode_request(chat, True)


@ALL
def test_a_key_is_in_one_header_of_the_format_s(upstream: Upstream) -> None:
    name, value = upstream.authorization("sk")
    assert (name, value) in {(b"authorization", b"Bearer sk"), (b"x-api-key", b"sk")}
    assert name not in upstream.headers and upstream.path.startswith("/")


@ALL
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"a":1}'])
def test_what_is_no_answer_is_said_to_be_none(upstream: Upstream, body: bytes) -> None:
    with pytest.raises(ValueError):
        upstream.decode_response(body)


@ALL
@pytest.mark.parametrize("status", [400, 404, 429, 500, 529])
@pytest.mark.parametrize(
    "body", [b"", b"<html>Busy</html>", b"busy", b'{"error":"busy"}', b'{"error":{"message":"b"}}']
)
def test_an_error_keeps_its_status_whatever_its_body(
    upstream: Upstream, status: int, body: bytes
) -> None:
    refusal = upstream.decode_error(status, body)
    assert refusal.status == status and refusal.message and refusal.code


@ALL
def test_a_stream_is_not_over_before_anything_came(upstream: Upstream) -> None:
    decoder = upstream.stream()
    assert not decoder.over and not [*decoder.decode(ServerEvent(b""))] and not decoder.over
