"""Parts that are no texts: base64 and data URLs."""

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Chat, Message
from bessemer.translate.media import (
    data_url,
    decoded_base64,
    decoded_data_url,
    image_of_url,
    image_type,
    refuse_media,
    titled_file,
)
from bessemer.translate.parts import Audio, Document, Image, Media, said


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("data:image/png;base64,iVBO", ("image/png", b"\x89PN")),
        ("data:image/PNG;name=a;base64,iV\nBO", ("image/png", b"\x89PN")),
        ("DATA:;BASE64,SGk=", ("text/plain", b"Hi")),
        ("data:text/plain;charset=utf-8,a%20b", ("text/plain", b"a b")),
        ("data:,", ("text/plain", b"")),
        ("https://a.org/b;base64,c", None),
        ("data", None),
    ],
)
def test_data_urls(url: str, found: tuple[str, bytes] | None) -> None:
    """https://www.rfc-editor.org/rfc/rfc2397"""
    assert decoded_data_url(url, "f") == found


def test_a_data_url_is_read_as_it_is_written() -> None:
    image = Image(media_type="image/png", data=bytes(range(256)))
    assert decoded_data_url(data_url(image), "f") == ("image/png", image.data)


@pytest.mark.parametrize("text", ["iVB", "iV*O", "é"])
def test_what_is_no_base64_is_refused_by_its_field(text: str) -> None:
    for read in (
        decoded_base64,
        lambda text, field: decoded_data_url(f"data:;base64,{text}", field),
    ):
        with pytest.raises(Refusal, match="f must be base64") as caught:
            read(text, "f")
        assert caught.value.field == "f"


@pytest.mark.parametrize("kind", [Image, Document, Audio])
def test_a_local_model_refuses_them_by_their_field(kind: type[Media]) -> None:
    part = kind(media_type="a/b", data=b"c", field="messages[0].content[1].type")
    with pytest.raises(Refusal) as caught:
        refuse_media(Chat("m", (Message("user", (*said("Hi"), part)),)))  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.field) == ("unsupported", part.field)
    refuse_media(Chat("m", (Message("user", said("Hi")),)))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\n\0\0\nWEBPVP8", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", "image/png"),
        (b"BM1234", "image/bmp"),
        (b"", "image/png"),
    ],
)
def test_images_say_what_they_are(data: bytes, kind: str) -> None:
    assert image_type(data) == kind


def test_images_and_files_by_url_or_name() -> None:
    assert image_of_url("https://a", "f", detail="low") == Image(
        media_type="", url="https://a", detail="low"
    )
    with pytest.raises(Refusal) as caught:
        image_of_url("file:///etc/passwd", "f")
    assert caught.value.field == "f"
    text = Document(media_type="text/plain", data=b"Hi", title="a.txt")
    assert titled_file("SGk=", "a.txt", "f") == text
    assert titled_file("data:text/plain;base64,SGk=", "a.txt", "f") == text
    assert titled_file("SGk=", None, "f").media_type == "application/pdf"
