"""The parts of a content."""

from bessemer.translate.chat import Message
from bessemer.translate.parts import Audio, Document, Image, Text, said


def test_a_text_is_one_part_and_an_empty_one_is_none() -> None:
    assert said("Hi") == (Text("Hi"),) and said("") == ()


def test_the_text_of_a_message_is_its_text_parts_a_line_each() -> None:
    image = Image(media_type="image/png", data=b"x", detail="low")
    document = Document(media_type="application/pdf", url="https://example.org/a.pdf", title="A")
    audio = Audio(media_type="audio/wav")
    message = Message("user", (Text("one"), image, Text("two"), document, audio))
    assert message.text == "one\ntwo"
    assert Message("user", (image,)).text == Message("assistant").text == ""
