"""A backend that always says the same, and a dialect of one line: what a new one must have."""

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from bessemer.engine.embedding.sentence_transformers import Purpose
from bessemer.engine.request import Refusal
from bessemer.http.about import About
from bessemer.http.activity import Activity
from bessemer.http.backends import Status, Traits
from bessemer.http.message import HttpRequest, Reply
from bessemer.translate.chat import (
    Answer,
    AnswerStarted,
    ArgumentsDelta,
    Chat,
    Done,
    Event,
    Failure,
    Finish,
    GenerateRequest,
    GenerationOptions,
    Identity,
    Message,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    Usage,
)
from bessemer.translate.dialect import Dialect, ServerEvent
from bessemer.translate.openai_embeddings import Embedding, Vectors
from bessemer.translate.operation import Operation
from bessemer.translate.parts import said
from bessemer.translate.rerank import Ranking, Scores
from bessemer.translate.tokens import Detokenize, Tokenize, Tokens

TEXT: tuple[Event, ...] = (
    AnswerStarted(Usage(3, 0)),
    ReasoningDelta(0, "Hm."),
    TextDelta(0, "Hello "),
    TextDelta(0, "there"),
    Finish(0, "stop"),
    Done(Usage(3, 4, reasoning=1)),
)
CALL: tuple[Event, ...] = (
    AnswerStarted(Usage(3, 0)),
    ToolCallBegun(0, 0, "call_1", "add"),
    ArgumentsDelta(0, 0, '{"a":'),
    ArgumentsDelta(0, 0, "1}"),
    Finish(0, "tool_calls"),
    Done(Usage(3, 4)),
)


@dataclass
class ToyBackend:
    """Says its events, whatever it is asked; with `breaks`, only some of them."""

    purpose: ClassVar[Purpose] = "generate"
    name: str
    said: tuple[Event, ...] = TEXT
    breaks: int | None = None  # events after which it refuses to go on
    created: int = 1
    about: About | None = None
    traits: Traits = Traits(("completion",))  # noqa: RUF009 - it is frozen
    activity: Activity = field(default_factory=Activity)
    requests: list[GenerateRequest | Embedding | Ranking] = field(default_factory=list)
    closed: int = 0

    @property
    def relays(self) -> Collection[str]:
        return ()

    async def relay(self, request: HttpRequest, path: str) -> Reply:
        raise AssertionError("a toy takes nothing as it is")

    async def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        try:
            for event in self.said[: self.breaks]:
                yield event
            if self.breaks is not None:
                raise Refusal(503, "overloaded", "Toys break.", retry_after=1)
        finally:
            self.closed += 1

    async def count(self, chat: Chat) -> int:
        return 42

    async def render(self, chat: Chat) -> str:
        return chat.messages[0].text

    async def tokenize(self, request: Tokenize) -> Tokens:
        return Tokens([ord(letter) for letter in request.text])

    async def detokenize(self, request: Detokenize) -> str:
        return "".join(map(chr, request.ids))

    async def embed(self, request: Embedding) -> Vectors:
        self.requests.append(request)
        return Vectors([b"\0\0\x80?"] * len(request.inputs), 5)

    async def rerank(self, request: Ranking) -> Scores:
        self.requests.append(request)
        return Scores([float(at) for at in range(len(request.documents))], 6)

    def status(self) -> Status:
        return Status("ready", context=99)

    def interrupt(self, refusal: Refusal) -> None:
        pass


class ToyRequest(msgspec.Struct):
    model: str
    say: str
    stream: bool = False


def decode_request(body: bytes) -> Chat:
    request = msgspec.json.decode(body, type=ToyRequest)
    message = Message("user", said(request.say))
    return Chat(request.model, (message,), GenerationOptions(stream=request.stream))


def encode_response(answer: Answer, identity: Identity) -> bytes:
    return msgspec.json.encode({"by": identity.model, "said": answer.choices[0].text})


def encode_error(refusal: Refusal, request_id: str | None) -> bytes:
    return msgspec.json.encode({"no": refusal.message})


class Stream:
    def __init__(self, identity: Identity, options: GenerationOptions) -> None:
        self._identity = identity

    def encode(self, event: Event) -> list[ServerEvent]:
        match event:
            case TextDelta(_, text):
                return [_event({"piece": text})]
            case Failure(refusal):
                return [ServerEvent(encode_error(refusal, None))]
            case Done():
                return [_event({"by": self._identity.model}), ServerEvent(b"OVER", mark=True)]
        return []


def _event(body: Any) -> ServerEvent:
    return ServerEvent(msgspec.json.encode(body))


DIALECT = Dialect(
    prefix="toy-",
    decode_request=decode_request,
    encode_response=encode_response,
    stream=Stream,
    encode_error=encode_error,
    framing="ndjson",
    operation=Operation(summary="Say it again", response=dict[str, str], pieces=(dict[str, str],)),
)
