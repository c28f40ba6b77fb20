"""A real model that must call a tool does (H5.13), in a batch of eight beside other answers."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jsonschema
import pytest

from bessemer.engine.request import Constraint, Request, Sampling, Token
from bessemer.engine.text.specials import NONE
from bessemer.translate.chat import Chat, Message, Tool, ToolChoice
from bessemer.translate.parsers.parser import AnswerToken
from bessemer.translate.parts import said
from bessemer.translate.renderer import Prompt
from bessemer.translate.template_source import pick
from tests.engine.grammar.test_smollm2 import answered, free, held, model, request
from tests.translate.called import joined, meant
from tests.translate.prompting import Prompter, prompter

TEXT, COUNT, YES = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
FORCED = 2000  # of ids: those of forced calls
DAY = {"type": "string", "pattern": "^20[0-9]{2}-[01][0-9]-[0-3][0-9]$"}


def tool(name: str, optional: Sequence[str] = (), **properties: Mapping[str, Any]) -> Tool:
    required = [each for each in properties if each not in optional]
    return Tool(name, None, {"type": "object", "properties": properties, "required": required})


PEOPLE = {"type": "array", "items": TEXT, "minItems": 1, "maxItems": 3}
PLACE = {
    "type": "object",
    "properties": {"x": COUNT, "y": COUNT},
    "required": ["x", "y"],
    "additionalProperties": False,
}
ASKED = (
    ("What is the weather in Oslo in celsius?",
     tool("get_weather", city=TEXT, unit={"enum": ["celsius", "kelvin"]})),
    ("Add 17 and 25.", tool("add", a=COUNT, b=COUNT)),
    ("Turn the kitchen light off.", tool("set_light", room=TEXT, on=YES)),
    ("What time is it?", Tool("clock", None, {"type": "object", "additionalProperties": False})),
    ("Book a table for two on the second of May.", tool("book_table", guests=COUNT, day=DAY)),
    ("Write to Ada and Bob that we meet at noon.", tool("send_mail", to=PEOPLE, text=TEXT)),
    ("Find flights from Berlin to Rome.",
     tool("find_flights", ("day",), origin=TEXT, destination=TEXT, day=DAY)),
    ("Play some jazz.", tool("play", genre={"enum": ["jazz", "rock", "folk"]})),
    ("How much are 20 dollars in euros?",
     tool("convert", amount={"type": "number"}, to={"enum": ["EUR", "USD"]})),
    ("Remind me to buy milk.", tool("remind", text=TEXT, urgent=YES)),
    ("Search the web for iron prices.", tool("search", query=TEXT)),
    ("Put the robot at 3, 4.", tool("move", to=PLACE, speed={"type": "number", "minimum": 0})),
    ("Delete the file notes.txt.", tool("delete_file", path=TEXT)),
    ("Who is user 42?", tool("get_user", id=COUNT)),
    ("Translate 'good day' into French.",
     tool("translate", text=TEXT, language={"enum": ["fr", "de", "es"]})),
    ("Set a timer of ten minutes.", tool("timer", minutes={**COUNT, "maximum": 600})),
    ("Is 97 a prime number?", tool("is_prime", number=COUNT)),
    ("Rate this film with four stars.",
     tool("rate", stars={"type": "integer", "minimum": 1, "maximum": 5})),
    ("Nobody is to be told.", tool("set_owner", owner={"type": ["string", "null"]})),
    ("Store the colours red and blue.", tool("store", colours={**PEOPLE, "maxItems": 2})),
)  # fmt: skip


@cache
def renderer() -> Prompter:
    tokenizer = model().tokenizer
    assert tokenizer.chat_template is not None
    return prompter(tokenizer, pick(tokenizer.chat_template))


def offered(number: int) -> tuple[Tool, Tool]:
    """Return the tool of a question, and another one."""
    return ASKED[number][1], ASKED[(number + 1) % len(ASKED)][1]


def prompt(number: int) -> Prompt:
    turn = Message("user", said(ASKED[number][0]))
    choice = ToolChoice("required", (), parallel=False)
    chat = Chat("m", (turn,), tools=offered(number), tool_choice=choice)
    return renderer().conversation(chat)


def neighbours() -> list[Request]:
    regex = Constraint(grammar="regex", definition="[A-Z][a-z]{2,9}( [a-z]{2,9}){3}")
    return [free(0), free(1), held(13), request(500, "Name a tree.", constraint=regex)]


@cache
def alone() -> Mapping[int, list[Token]]:
    return {each.id: answered([each])[each.id][0] for each in neighbours()}


def call_of(number: int, tokens: Sequence[Token]) -> tuple[str, Any]:
    """Return the one call that is all of an answer."""
    decode, parser = model().tokenizer.decode, prompt(number).parser(0, NONE)
    text = decode([t for event in tokens for t in event.tokens if not event.hidden])
    out = [delta for character in text for delta in parser.feed(AnswerToken(None, character))]
    (call,) = meant(joined([*out, *parser.close()]))
    assert tokens[-1].finish == "stop" and not isinstance(call, str), text
    return call[0], call[1]


def check(numbers: Sequence[int], temperature: float) -> None:
    """Have calls made four at a time, beside four other answers that stay to the bit."""
    for batch in (numbers[at : at + 4] for at in range(0, len(numbers), 4)):
        forced = [
            Request(
                id=FORCED + number,
                tokens=(asked := prompt(number)).tokens,
                max_tokens=700,
                constraint=asked.constraint,
                sampling=Sampling(temperature=temperature, seed=number),
            )
            for number in batch
        ]
        answers = answered([*forced, *neighbours()])
        for each, tokens in alone().items():
            assert answers[each][0] == tokens, "a neighbour, its log probabilities too"
        for number in batch:
            name, arguments = call_of(number, answers[FORCED + number][0])
            schemas = {each.name: each.parameters for each in offered(number)}
            jsonschema.validate(arguments, schemas[name] or {})


def test_calls_that_must_be_made_have_valid_arguments() -> None:
    check([0, 1, 3, 7], 0)


@pytest.mark.long
def test_twenty_calls_that_must_be_made_have_valid_arguments() -> None:
    assert len(ASKED) == 20
    for temperature in (0, 0.7):
        check(range(20), temperature)
