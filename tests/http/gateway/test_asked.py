"""What routes give requests."""

from dataclasses import replace

import pytest

from bessemer.http.gateway.asked import asks, with_asked
from bessemer.http.gateway.schema import AskedTable, RouteTable
from bessemer.translate.chat import Chat, Completion, GenerationOptions, Message, Reasoning
from bessemer.translate.parts import said

TURN = Message("user", said("Hi"))
OPEN = Chat("m", (TURN,))
SAID = Chat(
    "m",
    (Message("system", said("Own.")), TURN),
    GenerationOptions(max_tokens=50, temperature=0.0),
    reasoning=Reasoning(enabled=False),
)


def test_defaults_are_for_what_a_request_does_not_say() -> None:
    asked = AskedTable(max_tokens=9, temperature=0.5, thinking=True)
    given = with_asked(OPEN, asked)
    assert (given.options.max_tokens, given.options.temperature) == (9, 0.5)
    assert isinstance(given, Chat) and given.reasoning.enabled is True
    assert with_asked(SAID, asked) == SAID
    assert with_asked(OPEN, AskedTable()) == OPEN


@pytest.mark.parametrize(
    ("said", "default", "most"),
    [(None, None, 10), (None, 5, 5), (None, 50, 10), (3, 5, 3), (11, 5, 10)],
)
def test_a_cap_is_for_whatever_is_said(said: int | None, default: int | None, most: int) -> None:
    chat = replace(OPEN, options=GenerationOptions(max_tokens=said))
    asked = AskedTable(max_tokens=default, max_tokens_cap=10)
    assert with_asked(chat, asked).options.max_tokens == most


def test_a_system_message_is_before_the_request_s_own() -> None:
    given = with_asked(SAID, AskedTable(system="Route."))
    assert isinstance(given, Chat)
    assert [turn.text for turn in given.messages] == ["Route.", "Own.", "Hi"]
    empty = Chat("m", ())  # which only asks whether the model is there
    assert with_asked(empty, AskedTable(system="Route.")) == empty


def test_bare_prompts_get_what_they_have_a_place_for() -> None:
    given = with_asked(Completion("m", ("a",)), AskedTable(max_tokens=4, system="x", thinking=True))
    assert given == Completion("m", ("a",), GenerationOptions(max_tokens=4))


def test_a_route_that_asks_nothing_leaves_requests_as_they_are() -> None:
    assert not asks(AskedTable()) and not asks(RouteTable(provider="a", pattern="b"))
    for name, value in {"max_tokens": 1, "temperature": 0, "thinking": False}.items():
        assert asks(AskedTable(**{name: value}))  # type: ignore[arg-type]
