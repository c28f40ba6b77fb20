"""A small model's choice: what is scored, and how much is read."""

import asyncio

from bessemer.http.gateway.auto_likelihood import LEAST, MOST, TOGETHER, ends, likeliest, opening
from bessemer.http.gateway.schema import RouteTable
from bessemer.translate.chat import Completion
from tests.http.gateway.auto_reader_double import ScriptedReader, overlap


def route(name: str, description: str) -> RouteTable:
    return RouteTable(name=name, description=description, provider="local")


def test_names_are_words_and_descriptions_sentences() -> None:
    said = "Here is a question about small talk. Greetings.\n\nQuestion:"
    assert opening(route("small-talk", "Greetings")) == said
    assert opening(route("small_talk", " Greetings. ")) == said


def test_the_request_s_tokens_alone_are_scored() -> None:
    """A long description has many letters, each of them unlikely; that says nothing."""
    reader = ScriptedReader(overlap, 1)
    routes = [route("a", "zzz" * 100), route("b", "qqq")]
    name, why = asyncio.run(likeliest(reader, routes, "q z q", "me"))
    assert name == "a"  # a z came 300 times, all letters of the request together far less
    assert asyncio.run(likeliest(reader, routes[1:], "q", "me"))[0] == "b"
    # By hand: of " q z q" after its opening, each letter's count before it, less a hundred.
    text = opening(routes[1]) + " q z q"
    scores = [text[:at].count(text[at]) - 100 for at in range(len(text) - 6, len(text))]
    assert f"b {sum(scores):.1f}" in why
    asked = reader.asked[0]
    assert isinstance(asked, Completion) and asked.client == "me"


def test_only_the_ends_of_a_long_request_are_read() -> None:
    assert [*ends(range(10), 10)] == [*range(10)]
    assert [*ends(range(100), 5)] == [0, 1, 2, 98, 99]
    for count in (2, 10, 100):
        reader = ScriptedReader(overlap, 1, longest=2000)
        routes = [route(f"r{number}", "x") for number in range(count)]
        asyncio.run(likeliest(reader, routes, "y" * 10**6, "me"))
        (asked,) = reader.asked
        assert isinstance(asked, Completion) and len(asked.prompts) == count
        read = sum([*prompt].count(ord("y")) for prompt in asked.prompts)
        assert read <= max(TOGETHER, count * LEAST) and read <= count * MOST
