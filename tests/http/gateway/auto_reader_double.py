"""A model that reads what an auto-router has it read: by a script."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from bessemer.translate.chat import (
    AnswerStarted,
    Completion,
    Event,
    GenerateRequest,
    Heartbeat,
    PromptLogprobs,
    RankedToken,
    TextDelta,
    Usage,
)
from bessemer.translate.tokens import Tokenize, Tokens

Script = Callable[[GenerateRequest], Iterable[Event]]


class ScriptedReader:
    """Its tokens are characters; it takes `seconds` for each answer, and no text over `longest`."""

    def __init__(
        self, script: Script, parameters: int | None, seconds: float = 0, longest: int = 10**6
    ) -> None:
        self.name = "reader"
        sized: Any = type("Sized", (), {"parameters": parameters})
        self.about = None if parameters is None else sized
        self.script, self.seconds, self.longest = script, seconds, longest
        self.asked: list[GenerateRequest] = []

    async def tokenize(self, request: Tokenize) -> Tokens:
        assert not request.parse_special  # what a request says is never a control token
        assert len(request.text) <= self.longest
        return Tokens([*map(ord, request.text)])

    async def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        await asyncio.sleep(self.seconds)
        yield AnswerStarted(Usage(0, 0))
        for event in self.script(request):
            yield event


def answers(text: str) -> Script:
    """Return the script of a model that answers this, in two pieces."""
    return lambda request: [TextDelta(0, text[:5]), Heartbeat(), TextDelta(0, text[5:])]


def overlap(request: GenerateRequest) -> Iterable[Event]:
    """Find a letter likelier the more often it came before, as models do."""
    assert isinstance(request, Completion)
    for choice, given in enumerate(request.prompts):
        prompt = [*given]
        yield PromptLogprobs(choice, ((),))
        scores = [prompt[:at].count(letter) - 100 for at, letter in enumerate(prompt)][1:]
        tokens = tuple((RankedToken(0, "", score, 1),) for score in scores)
        yield PromptLogprobs(choice, tokens[:9])
        yield PromptLogprobs(choice, tokens[9:])
