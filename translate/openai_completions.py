"""OpenAI's legacy completions: request to Completion, answer and events to JSON."""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from msgspec import UNSET, Raw, Struct, UnsetType

from .chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    Best,
    Completion,
    Finish,
    GenerationOptions,
    Identity,
    ReasoningDelta,
    TextDelta,
    TokenText,
)
from .decode import invalid
from .dialect import Dialect
from .errors import OpenAIErrorBody, openai_error
from .fields import COMPLETIONS, GENERATION_IGNORED, RequestDecoder
from .openai_shape import (
    DONE,
    AnswerBody,
    ChunkStream,
    Events,
    ProgressBody,
    PromptLogprobsBody,
    TextRequest,
    TimingsBody,
    UsageBody,
    each_prompt,
    filled,
    finite,
    ranked,
    text_options,
    timings_body,
    usage_body,
)
from .operation import Operation
from .sampling import Alternatives, Choices, TokenId, max_tokens
from .structured_output import response_format

DEFAULT_MAX_TOKENS = 16  # https://platform.openai.com/docs/api-reference/completions
MAX_PROMPTS = 1024  # evaluation harnesses send batches of some hundred


class CompletionRequest(TextRequest, kw_only=True):
    prompt: str | list[str | TokenId | list[TokenId]] | None = None
    logprobs: Alternatives | bool | None = None
    top_logprobs: Alternatives | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Choices | None = None
    parse_special: bool | None = None


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
    prompt_logprobs: PromptLogprobsBody | UnsetType = UNSET


class CompletionBody(AnswerBody, tag_field="object", tag="text_completion"):
    """A whole answer, or a chunk of a stream, which has the same fields."""

    choices: list[OutputChoice]
    usage: UsageBody | UnsetType | None = UNSET
    timings: TimingsBody | UnsetType = UNSET
    prompt_progress: ProgressBody | UnsetType = UNSET
    system_fingerprint: str | UnsetType = UNSET


DECODER = RequestDecoder(CompletionRequest, COMPLETIONS, GENERATION_IGNORED)


def decode_request(body: bytes) -> Completion:
    request = DECODER.decode(body)
    said = max_tokens(request, 0)
    limit = DEFAULT_MAX_TOKENS if said is None else said
    options = text_options(request, limit, _logprobs(request))
    if said is None:
        options = replace(options, max_tokens=None, usual_max_tokens=limit)
    if request.suffix and request.echo:
        raise invalid("echo", "cannot be had where there is a suffix")
    special = request.parse_special
    return Completion(
        model=request.model or "",
        # As OpenAI has it, an empty list is an empty prompt too, as is none at all.
        prompts=each_prompt("prompt", request.prompt or "", MAX_PROMPTS),
        options=_best(options, request.best_of),
        suffix=request.suffix or None,
        echo=request.echo or False,
        parse_special=not request.suffix if special is None else special,
        response_format=response_format(request),
    )


def _best(options: GenerationOptions, count: int | None) -> GenerationOptions:
    """Return the options with so many answers, of which those that are asked for are shown."""
    shown = options.n
    if count is None or count == shown:
        return options
    if count < shown:
        raise invalid("best_of", f"must be at least n, which is {shown}")
    if options.stream:
        raise invalid("best_of", "cannot be had where stream is true")
    best = Best(shown, options.logprobs is not None)
    return replace(options, n=count, best=best, logprobs=options.logprobs or 0)


def encode_response(answer: Answer, identity: Identity) -> bytes:
    who, choices = identity, (Raw(_choice(i, each)) for i, each in enumerate(answer.choices))
    body = CompletionBody(who.id, who.created, who.model, [], usage_body(answer.usage))
    body.timings = timings_body(answer.timings)
    body.system_fingerprint = who.fingerprint or UNSET
    return filled(body, choices=choices)


class Stream(ChunkStream):
    body = CompletionBody

    def _nothing(self, choice: int) -> OutputChoice:
        return OutputChoice("", choice)

    def _started(self, event: AnswerStarted) -> Events:
        self._begin(event)
        return ()

    def _text_delta(self, event: TextDelta | ReasoningDelta) -> Events:
        return (self._send(OutputChoice(event.text, event.choice, self._logprobs(event.tokens))),)

    def _logprobs(self, tokens: tuple[TokenText, ...]) -> LogprobsBody | None:
        return _logprobs_body(tokens, [*map(_top, tokens)] if self._options.logprobs else None)

    def _finish(self, event: Finish) -> Events:
        self._open.discard(event.choice)
        return (self._send(OutputChoice("", event.choice, None, event.reason)),)

    handlers: ClassVar = {
        AnswerStarted: _started,
        TextDelta: _text_delta,
        ReasoningDelta: _text_delta,
        Finish: _finish,
        **ChunkStream.common,
    }


def _logprobs(request: CompletionRequest) -> int | None:
    """Return how many alternatives to show; chat's way of asking for them is understood too."""
    if request.logprobs is None or request.logprobs is False:
        if request.top_logprobs:
            raise invalid("top_logprobs", "needs logprobs")
        return None
    return request.top_logprobs or int(request.logprobs)


def _choice(index: int, choice: AnswerChoice) -> bytes:
    lists: dict[str, Iterable[object]] = {}
    if any(token.top for token in choice.tokens):
        lists["top_logprobs"] = map(_top, choice.tokens)
    if choice.prompt:
        lists["prompt_logprobs"] = map(ranked, choice.prompt)
    logprobs = _logprobs_body(choice.tokens, [] if "top_logprobs" in lists else None)
    body = OutputChoice(choice.reasoning + choice.text, index, logprobs, choice.reason)
    body.prompt_logprobs = [] if choice.prompt else UNSET
    return filled(body, **lists)


def _logprobs_body(
    tokens: tuple[TokenText, ...], tops: list[dict[str, float] | None] | None
) -> LogprobsBody | None:
    if not tokens:
        return None
    offsets = [token.offset for token in tokens]
    values = [None if token.logprob is None else finite(token) for token in tokens]
    return LogprobsBody([_name(token) for token in tokens], values, tops, offsets)


def _top(token: TokenText) -> dict[str, float] | None:
    """Map the alternatives and the token itself, as OpenAI does: up to one more than asked for.

    A prompt's first token has none.
    """
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
    formats=True,
    operation=Operation(
        summary="Go on from a text, as OpenAI's legacy completions do",
        request=DECODER,
        response=CompletionBody,
        pieces=(CompletionBody, OpenAIErrorBody),
        mark=DONE.data.decode(),
        example={"prompt": "Once upon a time", "max_tokens": 64},
    ),
)
