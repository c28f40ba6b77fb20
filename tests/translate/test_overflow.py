"""Conversations that are too long: what may go, what a summary stands for, how it is looked for."""

import asyncio
from itertools import pairwise

import pytest

from bessemer.translate.chat import Chat, GenerationOptions, Message, Shortened, ToolCall
from bessemer.translate.overflow import (
    ASKED,
    HEAD,
    KEPT,
    Cuts,
    first_fit,
    guessed,
    older,
    reserve,
    summarized,
    summary_request,
    transcript,
)
from bessemer.translate.parts import said

SYSTEM = Message("system", said("Be brief."))
CALL = ToolCall("c1", "read", '{"path": "a"}')


def turn(role: str, text: str) -> Message:
    return Message(role, said(text))


def talk(*roles: str) -> Chat:
    """Return a conversation of these roles: s, u, a, c (a call) and t (a tool's result)."""
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    turns = (
        Message("assistant", said(f"{at}"), calls=(CALL,))
        if role == "c"
        else turn(names[role], f"{at}")
        for at, role in enumerate(roles)
    )
    return Chat("m", tuple(turns))


@pytest.mark.parametrize(
    ("roles", "left"),
    [
        ("su", ["su"]),
        ("suau", ["suau", "su"]),
        ("uauau", ["uauau", "uau", "u"]),
        ("suasuau", ["suasuau", "ssuau", "ssu"]),
        ("sucttauau", ["sucttauau", "suau", "su"]),
        # An agent at work: the user asked once, and calls go with their results.
        ("suctctct", ["suctctct", "suctct", "suct"]),
        ("suauctcta", ["suauctcta", "suctcta", "sucta", "sua"]),
        ("saau", ["saau", "su"]),
        ("sca", ["sca", "sa"]),
        ("", [""]),
    ],
)
def test_the_oldest_go_first_and_what_is_asked_stays(roles: str, left: list[str]) -> None:
    cuts = Cuts(talk(*roles))
    chats = [cuts.chat_at(step) for step in range(len(cuts.steps))]
    names = {"system": "s", "user": "u", "assistant": "a", "tool": "t"}
    shown = [
        "".join("c" if each.calls else names[each.role] for each in chat.messages) for chat in chats
    ]
    assert shown == left
    for chat in chats[1:]:
        gone = len(roles) - len(chat.messages)
        assert chat.options.shortened == Shortened("truncate", messages=gone)
    assert chats[0] == talk(*roles)
    for more, less in pairwise(chats):
        assert {*map(id, less.messages)} < {*map(id, more.messages)}


def test_a_guess_is_by_length() -> None:
    turns = [turn(("user", "assistant")[at % 2], "x" * 100) for at in range(41)]
    cuts = Cuts(Chat("m", (SYSTEM, *turns)))
    assert cuts.guess(1.0) == 0 and cuts.guess(0.0) == len(cuts.steps) - 1
    half = cuts.chat_at(cuts.guess(0.5))
    assert 18 <= len(half.messages) <= 22
    assert guessed([0, 5, 9], 10, 0.5) == 1 and guessed([0, 5, 9], 10, 0.45) == 2


@pytest.mark.parametrize("guess", [-3, 0, 7, 500, 900, 999, 5000])
@pytest.mark.parametrize("least", [0, 1, 8, 400, 999])
def test_the_search_ends_at_the_least_in_few_tries(guess: int, least: int) -> None:
    tries: list[int] = []

    async def fits(at: int) -> str | None:
        tries.append(at)
        return f"{at}" if at >= least else None

    assert asyncio.run(first_fit(fits, 999, guess)) == f"{least}"
    assert len(tries) == len(set(tries)) <= 22  # never as many as there are messages
    near = abs(min(max(guess, 0), 999) - least)
    assert len(tries) <= 4 + 2 * near.bit_length()


def test_a_search_for_what_is_not_there() -> None:
    async def fits(at: int) -> str | None:
        return None

    assert asyncio.run(first_fit(fits, 999, 3)) is None
    assert asyncio.run(first_fit(fits, 0, 3)) is None


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, 50),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": 70}, 50),
        ({"max_tokens": 9999}, 50),
        ({"max_tokens": 90, "min_tokens": 80}, 80),
    ],
)
def test_an_answer_has_a_share_of_the_context(options: dict[str, int], tokens: int) -> None:
    assert reserve(GenerationOptions(**options), 60, 200) == tokens  # type: ignore[arg-type]


def test_a_summary_stands_for_all_but_the_system_and_the_last_6_v6() -> None:
    chat = talk(*"suauausuauau")
    gone = older(chat)
    assert [each.text for each in gone] == ["1", "2", "3", "4"]
    shorter = summarized(chat, "They talked.")
    system, *others = shorter.messages
    assert [part.text for part in system.content] == ["0", f"{HEAD}They talked."]  # type: ignore[union-attr]
    assert [each.text for each in others] == ["5", "6", "7", "8", "9", "10", "11"]
    assert sum(each.role != "system" for each in others) == KEPT
    assert shorter.options.shortened == Shortened("summarize", messages=4)


def test_a_summary_leaves_results_with_their_calls_and_may_be_the_first_message() -> None:
    chat = talk(*"uauactttttau")
    assert [each.text for each in older(chat)] == ["0", "1", "2", "3"]
    first, *others = summarized(chat, "S").messages
    assert (first.role, first.text) == ("system", f"{HEAD}S") and others[0].calls
    assert older(talk(*"suauaua")) == older(talk(*"s")) == older(Chat("m", ())) == ()


def test_a_summary_is_asked_for_in_few_words_by_the_same_client() -> None:
    options = GenerationOptions(cache_salt="salt", stream=True, max_tokens=9, temperature=2.0, n=3)
    long = "x" * 5000
    called = Message("assistant", said("Look."), calls=(CALL,))
    chat = Chat("m", (turn("user", long), called), options, client="key:a")
    lines = transcript(chat.messages, 400)
    assert lines[0].startswith("user: xxx") and len(lines[0]) < 120 and " ... " in lines[0]
    assert lines[1] == 'assistant: Look.\nread({"path": "a"})'
    assert [len(transcript(chat.messages, size)[0]) for size in (4, 320, 400)] == [91, 91, 111]
    asked = summary_request(chat, lines, 400)
    assert [each.role for each in asked.messages] == ["system", "user"]
    assert asked.messages[0].text == ASKED and asked.messages[1].text == "\n\n".join(lines)
    assert asked.client == "key:a" and asked.template == {"enable_thinking": False}
    said_of = asked.options
    assert (said_of.max_tokens, said_of.temperature, said_of.n) == (50, 0.0, 1)
    assert (said_of.cache_salt, said_of.stream) == ("salt", True)
    assert summary_request(chat, lines, 99_999).options.max_tokens == 512
