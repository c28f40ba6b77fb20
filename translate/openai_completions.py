"""OpenAI's legacy completions: request to Completion, answer and events to JSON."""

from typing import ClassVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    Completion,
    Done,
    Failure,
    Finish,
    Heartbeat,
    Identity,
    ReasoningDelta,
    TextDelta,
    TokenText,
)
from .decode import decode, invalid, unsupported
from .dialect import Dialect
from .errors import openai_error
from .openai_shape import (
    AnswerBody,
    ChunkStream,
    Events,
    Prompts,
    TextRequest,
    UsageBody,
    each_prompt,
    encode_json,
    finite,
    refuse_unbuilt,
    usage_body,
)
from .sampling import Alternatives, Count, options

DEFAULT_MAX_TOKENS = 16  # https://platform.openai.com/docs/api-reference/completions
MAX_PROMPTS = 1024  # evaluation harnesses send batches of some hundred


class CompletionRequest(TextRequest, kw_only=True):
    prompt: Prompts
    max_tokens: Count | None = None
    logprobs: Alternatives | bool | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None


class LogprobsBody(Struct):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class OutputChoice(Struct):
    text: str
    index: int
    logprobs: LogprobsBody | None = None
    finish_reason: str | None = None


class CompletionBody(AnswerBody, tag_field="object", tag="text_completion"):
    """A whole answer, or a chunk of a stream, which has the same fields."""

    choices: list[OutputChoice]
    usage: UsageBody | UnsetType | None = UNSET


DECODER = msgspec.json.Decoder(CompletionRequest)


def decode_request(body: bytes) -> Completion:
    request = decode(body, DECODER)
    refuse_unbuilt(request)
    if request.suffix:
        raise unsupported("suffix", "filling in before a suffix")
    if request.best_of not in (None, request.n or 1):
        raise invalid("best_of", f"must equal n, which is {request.n or 1}")
    prompts = each_prompt("prompt", request.prompt, MAX_PROMPTS)
    return Completion(
        model=request.model,
        prompts=prompts,
        options=options(request, _max_tokens(request), _logprobs(request.logprobs)),
        echo=request.echo or False,
    )


def encode_response(answer: Answer, identity: Identity) -> bytes:
    choices = [_choice(i, choice) for i, choice in enumerate(answer.choices)]
    who, usage = identity, usage_body(answer.usage)
    return encode_json(CompletionBody(who.id, who.created, who.model, choices, usage))


class Stream(ChunkStream):
    body = CompletionBody

    def _started(self, event: AnswerStarted) -> Events:
        return ()

    def _text_delta(self, event: TextDelta | ReasoningDelta) -> Events:
        return (self._send(OutputChoice(event.text, event.choice, _logprobs_body(event.tokens))),)

    def _finish(self, event: Finish) -> Events:
        return (self._send(OutputChoice("", event.choice, None, event.reason)),)

    def _heartbeat(self, event: Heartbeat) -> Events:
        return (self._send(OutputChoice("", 0)),)

    handlers: ClassVar = {
        AnswerStarted: _started,
        TextDelta: _text_delta,
        ReasoningDelta: _text_delta,
        Finish: _finish,
        Heartbeat: _heartbeat,
        Done: ChunkStream._done,
        Failure: ChunkStream._failure,
    }


def _max_tokens(request: CompletionRequest) -> int:
    if request.max_tokens is None:
        return DEFAULT_MAX_TOKENS
    if request.max_tokens == 0 and not request.echo:
        raise invalid("max_tokens", "must be at least 1 unless echo is true")
    return request.max_tokens


def _logprobs(asked: int | bool | None) -> int | None:
    return None if asked is None or asked is False else int(asked)


def _choice(index: int, choice: AnswerChoice) -> OutputChoice:
    text, logprobs = choice.reasoning + choice.text, _logprobs_body(choice.tokens)
    return OutputChoice(text, index, logprobs, choice.reason)


def _logprobs_body(tokens: tuple[TokenText, ...]) -> LogprobsBody | None:
    if not tokens:
        return None
    offsets = [token.offset for token in tokens]
    values = [None if token.logprob is None else finite(token) for token in tokens]
    tops = [_top(token) for token in tokens] if any(token.top for token in tokens) else None
    return LogprobsBody([_name(token) for token in tokens], values, tops, offsets)


def _top(token: TokenText) -> dict[str, float] | None:
    """Map the alternatives and the token itself, as OpenAI does: up to one more than asked for."""
    if token.logprob is None:
        return None
    return {_name(t): finite(t) for t in (*token.top, token)}


def _name(token: TokenText) -> str:
    """Spell a token that is no whole text by its bytes, so that names stay apart."""
    if "\ufffd" not in token.text:
        return token.text
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.raw)


DIALECT = Dialect(
    prefix="cmpl-",
    decode_request=decode_request,
    encode_response=encode_response,
    stream=Stream,
    encode_error=openai_error,
)
