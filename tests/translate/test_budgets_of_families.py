"""Thoughts of each family, closed by force at every split: its own marks, and nothing lost."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from time import monotonic
from typing import Literal

import pytest

from bessemer.engine.grammar.definition import grammar_of
from bessemer.engine.request import Constraint, GenerationDefaults, Request, Started, Token
from bessemer.translate.answer import AnswerStream, Bounds
from bessemer.translate.chat import (
    Chat,
    Event,
    Finish,
    GenerationOptions,
    Message,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    Tool,
    ToolChoice,
)
from bessemer.translate.parts import said
from tests.engine.grammar.spelling import NAMES, SPECIALS, accepts

from .scripted import SIZES, Scripted, letters, pieces
from .test_formats_of_families import DIRECT, FAMILIES, Family

THINKING = [family for family in FAMILIES if family.name not in DIRECT]
EACH = pytest.mark.parametrize("family", THINKING, ids=lambda f: f"{f.name}-{len(f.special)}")
THOUGHT, TEXT = "Hm, hello there.", "Hello there."


class Answer:
    """An answer whose model thinks without end, unless it is made to stop."""

    def __init__(self, family: Family, asked: Reasoning, tools: Sequence[Tool] = ()) -> None:
        self.model = family.scripted()
        start = self.model.answer.partition(THOUGHT[:3])[0]
        choice = ToolChoice("required" if tools else "auto")
        chat = Chat(
            "m",
            (Message("user", said("Hi")),),
            GenerationOptions(max_tokens=1000),
            reasoning=asked,
            tools=tuple(tools),
            tool_choice=choice,
        )
        self.prompts, numbers = self.model.prompter.prompts(chat, 9999, 9999), count(1)
        bounds = Bounds(9999, 9999, GenerationDefaults(), 9999)
        tokenizer = self.model.tokenizer
        self.stream = AnswerStream(
            chat, self.prompts, tokenizer, bounds, lambda: next(numbers), 0, monotonic
        )
        (self.request,) = self.stream.requests
        self.start = start

    def ids(self, text: str, size: int) -> list[int]:
        names = letters()
        out = []
        for piece in pieces(text, size, self.model.special):
            name = "".join(names[bytes([byte])] for byte in piece.encode())
            whole = self.model.tokenizer.id_of(piece if piece in self.model.special else name)
            out += self.model.tokenizer.encode(piece) if whole is None else [whole]
        return out

    def events(self, size: int) -> Iterator[Event]:
        """Yield the events as an engine would bring them that feeds what is forced."""
        reading = self.model.tokenizer.answer_text(self.request)
        assert reading.meter is not None
        yield from self.stream.take(Started(self.request.id, 0))
        thinking = iter([*self.ids(self.start, size), *self.ids(THOUGHT * 40, size)])
        while not reading.meter.forced:
            token = next(thinking)
            reading.add(token)
            yield from self.stream.take(Token(self.request.id, [token]))
        forced = []
        while reading.meter.forced:
            forced.append(reading.meter.forced[0])
            reading.add(forced[-1])
        yield from self.stream.take(Token(self.request.id, forced))
        text = self.ids(TEXT, size)
        yield from self.stream.take(Token(self.request.id, text, "length"))


def heard(events: Sequence[Event]) -> tuple[str, str]:
    reasoning = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
    return reasoning, "".join(e.text for e in events if isinstance(e, TextDelta))


@EACH
@pytest.mark.parametrize("budget", [0, 1, 5])
def test_a_thought_is_closed_and_the_text_follows(family: Family, budget: int) -> None:
    for size in SIZES[:-1]:
        answer = Answer(family, Reasoning(True, None, budget))
        events = [*answer.events(size)]
        reasoning, text = heard(events)
        assert text == TEXT, (size, text)
        ids = answer.ids(THOUGHT * 40, size)
        kept = [answer.model.tokenizer.decode(ids[: max(budget - k, 0)]) for k in range(3)]
        assert reasoning.rstrip("\n") in kept, (size, reasoning)
        assert isinstance(events[-1], Finish) and events[-1].reason == "length"
        usage = answer.stream.usage
        assert budget <= usage.reasoning < usage.completion - len(TEXT) // size + 1


@EACH
def test_a_limit_is_asked_of_decoding_only_where_there_is_one(family: Family) -> None:
    for asked in (Reasoning(), Reasoning(True), Reasoning(True, "max")):
        assert Answer(family, asked).request.budget is None
    held = Answer(family, Reasoning(False)).request.budget
    assert held is not None and held.tokens == 0


def closed(request: Request, model: Scripted, again: bool = False) -> str:
    """Return the text of what closes a thought, names of special tokens among it."""
    budget, names = request.budget, model.tokenizer.special_names
    assert budget is not None
    ids = budget.again if again else budget.closing
    return "".join(names.get(i) or model.tokenizer.token_bytes(i).decode() for i in ids)


@EACH
@pytest.mark.parametrize("again", [False, True])
def test_a_grammar_lets_the_closing_through(family: Family, again: bool) -> None:
    if not set(family.special) & {*NAMES} and family.special:
        return  # its marks are text to the vocabulary of the grammars' tests
    answer = Answer(family, Reasoning(False))
    marks = answer.prompts[0].thought
    specials = {name: SPECIALS[name] for name in family.special if name in SPECIALS}
    form = Constraint(grammar="regex", definition="[0-9]{3}")
    grammar = grammar_of(form, marks, specials, lambda name: True)
    whole = f"{answer.start}Hm{closed(answer.request, answer.model, again)}"
    assert accepts(grammar, f"{whole}123")
    assert not accepts(grammar, f"{whole}12")


def ask(name: str, knows: bool, mode: Literal["auto", "required"]) -> tuple[str, str]:
    """Return what closes thoughts of a family whose template knows of tools or not, in turn."""
    family = next(family for family in FAMILIES if family.name == name)
    about = "tools <|START_ACTION|>" if knows else ""
    model = replace(family, about=about).scripted()
    chat = Chat(
        "m",
        (Message("user", said("Hi")),),
        reasoning=Reasoning(budget=7),
        tools=(Tool("f", parameters={"type": "object"}),),
        tool_choice=ToolChoice(mode),
    )
    (prompt,) = model.prompter.prompts(chat, 9999, 9999)
    request = Request(id=1, tokens=[1], max_tokens=9, budget=prompt.closing)
    return closed(request, model), closed(request, model, again=True)


FINAL = "<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("name", "end", "text", "calls"),
    [
        ("harmony", "<|end|><|start|>assistant", FINAL, "<|channel|>commentary"),
        ("cohere", "<|END_THINKING|>", "<|START_RESPONSE|>", ""),
        ("think", "\n</think>\n\n", "", ""),
    ],
)
def test_where_tools_may_be_called_the_model_chooses_once(
    name: str, end: str, text: str, calls: str
) -> None:
    assert ask(name, knows=False, mode="auto") == (end + text, end + text), "calls are text"
    assert ask(name, knows=False, mode="required") == (end + text, end + text)
    assert ask(name, knows=True, mode="auto") == (end, end + text)
    assert ask(name, knows=True, mode="required") == (end + calls, end + calls)


def test_a_call_that_must_be_made_goes_on_from_the_closing() -> None:
    family = next(family for family in FAMILIES if family.name == "harmony")
    tool = Tool("f", parameters={"type": "object"})
    answer = Answer(replace(family, about="tools"), Reasoning(False), [tool])
    constraint = answer.request.constraint
    assert constraint is not None and constraint.heads
    definition = constraint.definition
    for name in family.special:
        own = f"<[{answer.model.tokenizer.id_of(name)}]>"
        definition = definition.replace(own, f"<[~{SPECIALS[name]}]>")
    moved = Constraint(grammar="lark", definition=definition.replace("~", ""), heads=True)
    grammar = grammar_of(moved, answer.prompts[0].thought, SPECIALS, lambda name: True)
    ending = closed(answer.request, answer.model)
    call = f"<|channel|>analysis<|message|>Hm{ending} to=functions.f "
    assert accepts(grammar, call + "<|constrain|>json<|message|>{}")
