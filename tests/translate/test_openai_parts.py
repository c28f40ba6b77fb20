"""Images, sounds and files in chat completions, and thoughts that other servers signed."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    Chat,
    Done,
    Event,
    Finish,
    GenerationOptions,
    Identity,
    ReasoningDelta,
    TextDelta,
    ThoughtSigned,
    Usage,
)
from bessemer.translate.media import refuse_media
from bessemer.translate.openai_chat import DIALECT
from bessemer.translate.parts import Audio, Document, Image, SignedThought, Text

WHO = Identity("x", 5, "m")


def decoded(message: dict[str, Any]) -> Chat:
    body = {"model": "m", "messages": [message]}
    chat = DIALECT.decode_request(json.dumps(body).encode())
    assert isinstance(chat, Chat)
    return chat


def part(**sent: Any) -> Any:
    (message,) = decoded({"role": "user", "content": [sent]}).messages
    (only,) = message.content
    return only


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
            Image(media_type="image/png", data=b"\x89PN"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
            Image(media_type="", url="https://a/b.png", detail="low"),
        ),
        ({"type": "image_url", "image_url": "HTTP://a"}, Image(media_type="", url="HTTP://a")),
        (
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            Audio(media_type="audio/wav", data=b"RIFF"),
        ),
        (
            {"type": "file", "file": {"file_data": "JVBERg==", "filename": "a.pdf"}},
            Document(media_type="application/pdf", data=b"%PDF", title="a.pdf"),
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/plain,a", "filename": "a"}},
            Document(media_type="text/plain", data=b"a", title="a"),
        ),
        ({"type": "file", "file": {"file_id": "f"}}, Document(media_type="", file_id="f")),
    ],
)
def test_parts_are_read_and_local_models_refuse_them_by_their_field(
    sent: dict[str, Any], expected: Any
) -> None:
    assert part(**sent) == expected
    with pytest.raises(Refusal) as caught:
        refuse_media(decoded({"role": "user", "content": [{"type": "text", "text": "a"}, sent]}))
    refusal = caught.value
    assert (refusal.status, refusal.code) == (400, "unsupported")
    assert refusal.field == "messages[0].content[1].type"


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"type": "image_url"}, "image_url"),
        ({"type": "image_url", "image_url": {"url": "ftp://a"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}, "image_url.url"),
        ({"type": "input_audio"}, "input_audio"),
        (
            {"type": "input_audio", "input_audio": {"data": "", "format": "ogg"}},
            "input_audio.format",
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}},
            "input_audio.data",
        ),
        ({"type": "file"}, "file"),
        ({"type": "file", "file": {}}, "file.file_data"),
    ],
)
def test_what_is_wrong_is_named(sent: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        part(**sent)
    assert (caught.value.status, caught.value.field) == (400, f"messages[0].content[0].{field}")


def test_cache_marks_are_kept() -> None:
    marks = [{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}, None]
    texts = [part(type="text", text="a", cache_control=mark) for mark in marks]
    assert [each.kept for each in texts] == ["5m", "1h", ""] and texts == [Text("a")] * 3


THOUGHTS = (
    SignedThought("Hm.", "sig", "openai"),
    SignedThought("Well.", "claude", "anthropic"),
    SignedThought("", "sealed", "responses"),
)


def test_signed_thoughts_go_to_a_client_and_come_back_with_whose_they_are() -> None:
    answer = Answer((AnswerChoice("A", "Hm.Well.", "stop", signed=THOUGHTS),), Usage(1, 2))
    body = json.loads(DIALECT.encode_response(answer, WHO))
    ChatCompletion.model_validate(body)
    details = body["choices"][0]["message"]["reasoning_details"]
    assert [each["type"] for each in details] == [
        "reasoning.text", "reasoning.text", "reasoning.encrypted"
    ]  # fmt: skip
    (message,) = decoded(
        {"role": "assistant", "content": "A", "reasoning_details": details}
    ).messages
    assert message.signed == THOUGHTS


def test_a_stream_s_details_come_to_the_same() -> None:
    stream = DIALECT.stream(WHO, GenerationOptions(stream=True))
    events: list[Event] = [AnswerStarted(Usage(1, 0))]
    for thought in THOUGHTS:
        events += [ReasoningDelta(0, thought.text)] if thought.text else []
        redacted = not thought.text
        events.append(ThoughtSigned(0, thought.signature, redacted, thought.origin))
    events += [TextDelta(0, "A"), Finish(0, "refusal"), Done(Usage(1, 2))]
    sent = [each for event in events for each in stream.encode(event) if not each.mark]
    chunks = [json.loads(each.data) for each in sent]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    choices = [each for chunk in chunks for each in chunk["choices"]]
    assert choices[-1]["finish_reason"] == "content_filter"
    details = list[dict[str, Any]]()
    for choice in choices:
        if text := choice["delta"].get("reasoning_content"):
            details.append({"type": "reasoning.text", "text": text})
        details += choice["delta"].get("reasoning_details", [])
    (message,) = decoded(
        {"role": "assistant", "content": "A", "reasoning_details": details}
    ).messages
    assert message.signed == THOUGHTS
