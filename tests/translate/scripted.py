"""Answers as scripts of tokens: a tokenizer that can split them anywhere, worker and server."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from bessemer.engine.request import GenerationDefaults, Request, Started, Token
from bessemer.engine.text.tokenizer import Tokenizer
from bessemer.translate.answer import AnswerStream, Bounds
from bessemer.translate.chat import (
    ArgumentsDelta,
    Chat,
    Finish,
    GenerateRequest,
    GenerationOptions,
    Message,
    ReasoningDelta,
    TextDelta,
    Tool,
    ToolCallBegun,
    ToolChoice,
)
from bessemer.translate.chat import Event as Said
from bessemer.translate.parsers.formats import choose
from bessemer.translate.parts import said
from tests.translate.prompting import prompter

AUTO = ToolChoice()
SIZES = (1, 2, 3, 5, 8, 1000)  # characters of a token, at most


def pieces(text: str, size: int, special: Sequence[str]) -> Iterator[str]:
    """Cut a text into special tokens and pieces of a size."""
    names = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    for part in re.split(f"({names})", text) if names else [text]:
        if part in special:
            yield part
        else:
            yield from (part[at : at + size] for at in range(0, len(part), size))


def letters() -> dict[bytes, str]:
    """Return the character that stands for each byte in a byte-level vocabulary."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = {}
    for code in range(0x800):
        character = chr(code)
        shown = level.pre_tokenize_str(character)[0][0]
        alphabet |= {bytes([b]): s for b, s in zip(character.encode(), shown, strict=True)}
    alphabet |= {bytes([b]): chr(b) for b in range(0xE0, 0x100)}
    return alphabet


def scripting_tokenizer(texts: Sequence[str], special: Sequence[str]) -> Tokenizer:
    """Build a byte-level tokenizer that has every piece of these texts as a token."""
    alphabet = letters()
    names = list(alphabet.values())
    for piece in (p for text in texts for size in SIZES for p in pieces(text, size, special)):
        if piece not in special:
            names.append("".join(alphabet[bytes([byte])] for byte in piece.encode()))
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(names))}
    encoding = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoding.decoder = decoders.ByteLevel()
    encoding.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    return Tokenizer(encoding, {}, None)


@dataclass(frozen=True)
class Heard:
    """What a client got of an answer, and after how many tokens it ended."""

    reasoning: str
    text: str
    stop: str | None
    tokens: int
    calls: tuple[tuple[str, str], ...] = ()  # names and arguments
    reason: str = "stop"


class Scripted:
    """A model that answers with a text, whose tokens are as long as one likes.

    The first of `eos` that it says ends its answer.
    """

    def __init__(
        self, template: str, answer: str, special: Sequence[str] = (), eos: Sequence[str] = ()
    ) -> None:
        self.special = special
        self.answer = answer
        self.tokenizer = scripting_tokenizer([answer], special)
        self.eos = [self.tokenizer.id_of(name) for name in eos]
        format_ = choose(template, self.tokenizer.special_names.values())
        self.prompter = prompter(self.tokenizer, template, format=format_)
        alphabet = letters()
        self._name = lambda piece: "".join(alphabet[bytes([byte])] for byte in piece.encode())

    def script(self, size: int) -> list[int]:
        parts = pieces(self.answer, size, self.special)
        ids = [self.tokenizer.id_of(p if p in self.special else self._name(p)) for p in parts]
        assert None not in ids
        return [token for token in ids if token is not None]

    def chat(
        self,
        size: int,
        final: str = "",
        cut: int | None = None,
        tools: tuple[Tool, ...] = (),
        choice: ToolChoice = AUTO,
        **options: Any,
    ) -> Heard:
        """Ask for an answer in tokens of a size, `cut` after so many of them.

        `final` is a last message to be continued.
        """
        messages: tuple[Message, ...] = (Message("user", said("Hi")),)
        messages += (Message("assistant", said(final)),) if final else ()
        chat = Chat(
            "m",
            messages,
            GenerationOptions(**options),
            continue_final=bool(final),
            tools=tools,
            tool_choice=choice,
        )
        return self.ask(chat, self.script(size)[:cut])

    def ask(self, request: GenerateRequest, script: Sequence[int]) -> Heard:
        prompts, numbers = self.prompter.prompts(request, 9999, 9999), count(1)
        bounds = Bounds(9999, 9999, GenerationDefaults(), 9999)
        stream = AnswerStream(
            request, prompts, self.tokenizer, bounds, lambda: next(numbers), 0, float
        )
        (asked,) = stream.requests
        events: list[Said] = [*stream.take(Started(asked.id, 0))]
        steps = list(self._steps(asked, script))
        for step in steps:
            events += stream.take(step)
        finish = events[-1]
        assert isinstance(finish, Finish)
        reasoning = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
        text = "".join(e.text for e in events if isinstance(e, TextDelta))
        server = self._server_stop(request, script)
        worker = len(steps) if steps[-1].stop is not None else None
        assert server == worker, "server and worker stop at different tokens"
        called = [each for each in events if isinstance(each, ToolCallBegun)]
        calls = tuple((call.name, _arguments(events, call.index)) for call in called)
        return Heard(reasoning, text, finish.stop, len(steps), calls, finish.reason)

    def _steps(self, request: Request, script: Sequence[int]) -> Iterator[Token]:
        """Yield what an engine does of the script, as engine.engine ends an answer."""
        reading = self.tokenizer.answer_text(request)
        for at, token in enumerate(script):
            hidden = token in self.eos or token in request.stop_token_ids
            reading.add(token, hidden)
            over = hidden or reading.stop is not None
            finish = "stop" if over else "length" if at == len(script) - 1 else None
            yield Token(request.id, [token], finish, reading.stop, int(hidden))
            if finish is not None:
                return

    def _server_stop(self, request: GenerateRequest, script: Sequence[int]) -> int | None:
        """Return after how many tokens the server alone would find a stop string."""
        prompts, numbers = self.prompter.prompts(request, 9999, 9999), count(1)
        bounds = Bounds(9999, 9999, GenerationDefaults(), 9999)
        stream = AnswerStream(
            request, prompts, self.tokenizer, bounds, lambda: next(numbers), 0, float
        )
        (asked,) = stream.requests
        output = stream._choices[asked.id].output
        for at, token in enumerate(script):
            hidden = token in self.eos or token in asked.stop_token_ids
            output.feed(token, hidden=hidden)
            matcher = output._early or output._stops
            if matcher.matched is not None:
                return at + 1
            if hidden:
                return None
        return None


def _arguments(events: Sequence[Said], index: int) -> str:
    return "".join(e.text for e in events if isinstance(e, ArgumentsDelta) and e.index == index)
