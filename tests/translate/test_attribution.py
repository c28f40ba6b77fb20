"""Claude Code's line of who pays, which is no part of a prompt."""

import json

import pytest

from bessemer.translate import anthropic_request
from bessemer.translate.attribution import without_attribution
from bessemer.translate.chat import Chat, Message
from bessemer.translate.parts import Image, Text, said

LINE = "x-anthropic-billing-header: cc_version=2.1.37.3f8; cc_entrypoint=cli; cch=00000;"
HI = Message("user", said("Hi"))


def sent(system: object) -> Chat:
    """Return a request of Claude Code's shape, as its dialect reads it."""
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": "m", "max_tokens": 9, "system": system, "messages": messages}
    return anthropic_request.decode_request(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("system", "texts"),
    [
        ([{"type": "text", "text": LINE}, {"type": "text", "text": "You are."}], ["You are."]),
        ([{"type": "text", "text": f"{LINE}\n\nYou are."}], ["You are."]),
        (f"{LINE}\nYou are.\nSo.", ["You are.\nSo."]),
        (f"You are.\n{LINE}", [f"You are.\n{LINE}"]),  # it is always the first
        ([{"type": "text", "text": "A"}, {"type": "text", "text": LINE}], ["A", LINE]),
    ],
)
def test_the_line_goes_and_all_else_stays(system: object, texts: list[str]) -> None:
    first, *others = without_attribution(sent(system)).messages
    assert [part.text for part in first.content if isinstance(part, Text)] == texts
    assert first.role == "system" and others == [HI]


def test_a_system_turn_that_was_nothing_else_goes_too() -> None:
    assert without_attribution(sent(LINE)).messages == (HI,)


def test_others_may_say_what_they_like() -> None:
    spoken = Message("user", said(LINE))
    image = Message("system", (Image(media_type="image/png", data=b"x"), Text(LINE)))
    for messages in ((), (spoken,), (Message("system"), spoken), (image, HI)):
        chat = Chat("m", messages)
        assert without_attribution(chat) is chat
