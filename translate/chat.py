"""The conversation vocabulary between dialects and backends: requests, events, answers."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct, json

from ..engine.request import Grammar, Refusal
from .parts import Content, Kept, SignedThought, Text

# A prompt that does not fit is refused, loses its oldest turns, or has them summarized.
Overflow = Literal["error", "truncate", "summarize"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a model may call; `parameters` is a JSON schema, which `strict` calls keep to.

    `field` is the request's that has the schema. With `grammar`, in Lark, that is what they keep
    to: of the text that is their one argument, `input`. A `deferred` one is told of in a turn.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False
    grammar: str | None = None
    deferred: bool = False
    kept: Kept = field(default="", compare=False)
    field: str = field(default="tools", compare=False)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """A rule whether a model may or must call tools; `names` are those allowed (none: all)."""

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as a model wrote it; `arguments` are JSON text, but for what a model got wrong."""

    id: str
    name: str
    arguments: str
    kept: Kept = field(default="", compare=False)

    @property
    def values(self) -> dict[str, Any]:
        """The arguments by name; a text that is no object is one, named as Anthropic advises.

        https://docs.anthropic.com: fine-grained tool streaming.
        """
        with suppress(ValueError, RecursionError):
            if isinstance(values := json.decode(self.arguments), dict):
                return values
        return {"INVALID_JSON": self.arguments}


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The grammar of a whole answer; `field` asked for it.

    `definition` is a JSON schema, a regular expression, a grammar, or JSON of the choices. Of a
    schema that is not `strict`, what cannot be kept to is left out.
    """

    kind: Grammar
    definition: str
    strict: bool = True
    field: str = "response_format"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; role is system, user, assistant or tool.

    `reasoning` is an assistant's earlier thinking, `calls` what it called; a turn of role tool is
    the result of the call `result_of`, or the error (`failed`) that it ended in. `in_parts`: the
    content was sent as a list, which some templates tell from a text. `signed` are the thoughts
    that another server made and would have back as they were, those in `reasoning` among them.
    """

    role: str
    content: Content = ()
    reasoning: str | None = None
    name: str | None = None
    calls: tuple[ToolCall, ...] = ()
    result_of: str | None = None
    failed: bool = False
    in_parts: bool = False
    signed: tuple[SignedThought, ...] = ()

    @property
    def text(self) -> str:
        """The text parts, a line each."""
        return "\n".join(part.text for part in self.content if isinstance(part, Text))


# Server-sent events, a JSON document a line, or one document in the end: the answer as a whole.
StreamFormat = Literal["sse", "json_lines", "json_array"]


@dataclass(frozen=True, slots=True)
class Best:
    """The likeliest answers alone: so many to each prompt, with log probabilities or without."""

    n: int
    logprobs: bool


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """The settings of an answer; None leaves one to the model's own defaults."""

    max_tokens: int | None = None
    usual_max_tokens: int | None = None  # its dialect's, where the model's defaults say nothing
    min_tokens: int = 0
    ignore_eos: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    stop_in_reasoning: bool = False  # look for stop strings in thoughts too
    include_stop: bool = False  # leave the stop string in the text
    skip_special_tokens: bool = True  # leave their names out of the text
    allowed_token_ids: Sequence[int] | None = None  # None: all
    bad_words: tuple[str, ...] = ()
    cache_salt: str = ""  # prefixes are shared only within one salt
    n: int = 1
    best: Best | None = None  # which of the n answers to a prompt are shown; None: all
    logprobs: int | None = None  # alternatives a token; None: no logprobs at all
    prompt_logprobs: int | None = None  # the same for the prompt
    stream: bool = False
    stream_format: StreamFormat | None = None  # None: its dialect's
    stream_chunk: int | None = None  # tokens of a piece of a stream; None: each by itself
    include_usage: bool = False
    continuous_usage: bool = False  # in every piece of a stream
    return_context: bool = False  # tell the tokens of prompt and answer in the end
    timings: bool = False  # tell how fast it comes, in every piece of a stream too
    progress: bool = False  # tell in a stream how far the prompt is read
    cache_marked: bool = False  # the request marks what it would have cached; all prompts are
    overflow: Overflow | None = None  # what to do with too long a prompt; None: the server's way
    shortened: "Shortened | None" = None  # what was done with it


# Thoughts are apart from the text, in it, left out, or left out but for a sealed copy.
Shown = Literal["apart", "inline", "hidden", "sealed"]


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What is asked of thoughts; None leaves it to the model.

    `enabled`: whether it thinks at all; `effort`: how much, a level of reasoning.EFFORTS; `budget`:
    the most tokens of it.
    """

    enabled: bool | None = None
    effort: str | None = None
    budget: int | None = None
    shown: Shown = "apart"


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to be continued by `model`; without messages, `model` is only to be there."""

    model: str
    messages: tuple[Message, ...]
    options: GenerationOptions = GenerationOptions()
    template: dict[str, Any] = field(default_factory=dict)  # chat_template_kwargs
    reasoning: Reasoning = Reasoning()
    continue_final: bool = False  # go on in the last message instead of opening a new one
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    call_prefix: str = "call_"  # of the ids of calls, where its model has none of its own
    response_format: ResponseFormat | None = None  # None: any text
    before: tuple[int, ...] = ()  # tokens of an earlier prompt and answer, which this one goes on
    must_think: bool = False  # it is refused by a model that has no thoughts
    client: str = ""  # on whose behalf, as http.auth names callers
    key: str = field(default="", repr=False)  # the client's own, for another server
    guard: str = ""  # what keeps texts from becoming control tokens, where one spells some

    @property
    def listed(self) -> tuple[Tool, ...]:
        """The tools that the prompt begins with, so that it stays the same whatever is chosen."""
        return tuple(tool for tool in self.tools if not tool.deferred)

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools that may be called."""
        names = frozenset(self.tool_choice.names)
        allowed = tuple(tool for tool in self.tools if not names or tool.name in names)
        return () if self.tool_choice.mode == "none" else allowed


@dataclass(frozen=True, slots=True)
class Completion:
    """Bare prompts to be continued, each a text or token ids; choice i belongs to prompt i // n.

    An empty one is the beginning of a new document. Control tokens in a text are parsed as such,
    unless `parse_special` is false. With a `suffix`, what is to be written is the text between a
    prompt and that.
    """

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    options: GenerationOptions = GenerationOptions()
    echo: bool = False
    parse_special: bool = True  # names of control tokens in the prompts are these tokens
    response_format: ResponseFormat | None = None
    client: str = ""
    suffix: str | None = None


class TokenText(Struct, frozen=True, gc=False):  # there are very many, and no cycles
    """A token as a client sees it, with its natural log probability and its alternatives."""

    text: str
    raw: bytes
    logprob: float | None  # None: the first token of a prompt has none
    top: tuple["TokenText", ...] = ()
    offset: int = 0  # characters of prompt and answer before the one that it is part of


class Shortened(Struct, frozen=True):
    """What was left out of a prompt for which the context has no room, and by which policy.

    Of a conversation it is so many messages, of bare prompts so many tokens.
    """

    policy: Overflow
    messages: int = 0
    tokens: int = 0


class Usage(Struct, frozen=True):
    prompt: int
    completion: int
    cached: int = 0  # of the prompt, found in the prefix cache
    reasoning: int = 0  # of the completion, spent on thinking
    shortened: Shortened | None = None
    cache_marked: bool = False  # the request marked what it would have cached
    created: int | None = None  # of the prompt, put into another server's cache


class Timings(Struct, frozen=True):
    """The speed of an answer so far: tokens of its prompts and its own, and the seconds of each."""

    cached: int
    computed: int  # of the prompts
    computing: float  # to the first token, which costs no step of its own
    written: int
    writing: float  # since the first of them
    later: int  # of those written, all but the first of each choice: what took that time


class RankedToken(Struct, frozen=True, gc=False):
    """A token by its id, with its log probability and its rank, 1 for the likeliest, if known."""

    token: int
    text: str
    logprob: float
    rank: int | None


class AnswerStarted(Struct, frozen=True):
    """The first event of an answer of so many `choices`: nothing is generated yet."""

    usage: Usage
    choices: int = 1


class PromptLogprobs(Struct, frozen=True):
    """The log probabilities of the prompt's next tokens: each with its alternatives.

    The first token of a prompt has none.
    """

    choice: int
    tokens: tuple[tuple[RankedToken, ...], ...]


class Progress(Struct, frozen=True):
    """The tokens so far, before the events that they brought; only where asked for."""

    usage: Usage
    timings: Timings | None = None


class PromptProgress(Struct, frozen=True):
    """How many tokens of a choice's prompt are `processed`, those `cached` before among them.

    `seconds` are those since the first prompt was begun.
    """

    choice: int
    total: int
    cached: int
    processed: int
    seconds: float


class TextDelta(Struct, frozen=True):
    choice: int
    text: str
    tokens: tuple[TokenText, ...] = ()  # only where logprobs were asked for


class ReasoningDelta(Struct, frozen=True):
    choice: int
    text: str
    tokens: tuple[TokenText, ...] = ()


class ThoughtSealed(Struct, frozen=True):
    """The whole of a thought that the client is not to read; only where it asked for that."""

    choice: int
    text: str


class ThoughtSigned(Struct, frozen=True):
    """The signature of the thought that is over, or the whole of a redacted one.

    `origin` is the format of the server that made it.
    """

    choice: int
    signature: str
    redacted: bool = False
    origin: str = ""


class ToolCallBegun(Struct, frozen=True):
    """The name of the choice's call number `index` (from 0); its arguments follow."""

    choice: int
    index: int
    id: str
    name: str


class ArgumentsDelta(Struct, frozen=True):
    """A piece of the JSON text of a call's arguments."""

    choice: int
    index: int
    text: str


class Finish(Struct, frozen=True):
    """The end of a choice; `reason` is stop, length or tool_calls, `stop` the stop string met.

    Where nothing was to be written, the reason is load; where another server's model would not
    answer, or was not let to, it is refusal.
    """

    choice: int
    reason: str
    stop: str | None = None


class Durations(Struct, frozen=True):
    """The nanoseconds that an answer took: in all, until its model was there, to read the prompt
    (from when its turn came), and to write the rest after the first token."""

    total: int = 0
    load: int = 0
    prompt: int = 0
    completion: int = 0


UNTIMED = Durations()


class Done(Struct, frozen=True):
    """The last event of a whole answer; with its timings where they were asked for.

    `context` has the tokens of prompt and answer, if they were.
    """

    usage: Usage
    timings: Timings | None = None
    context: tuple[int, ...] = ()
    durations: Durations = UNTIMED


class Heartbeat(Struct, frozen=True):
    """A sign, after a while without an event, that the connection lives."""


class Failure(Struct, frozen=True):
    """The reason why an answer broke off after it had begun."""

    refusal: Refusal


Delta = TextDelta | ReasoningDelta | ThoughtSealed | ThoughtSigned | ToolCallBegun | ArgumentsDelta
Event = (
    AnswerStarted
    | PromptLogprobs
    | PromptProgress
    | Progress
    | Delta
    | Finish
    | Done
    | Heartbeat
    | Failure
)
GenerateRequest = Chat | Completion


@dataclass(frozen=True, slots=True)
class AnswerChoice:
    """A finished choice of an answer that is not streamed."""

    text: str
    reasoning: str
    reason: str
    stop: str | None = None
    tokens: tuple[TokenText, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    prompt: tuple[tuple[RankedToken, ...], ...] = ()  # its prompt's, where asked for
    sealed: str = ""  # thoughts that the client is not to read
    signed: tuple[SignedThought, ...] = ()  # by another server, those in `reasoning` among them


@dataclass(frozen=True, slots=True)
class Answer:
    choices: tuple[AnswerChoice, ...]
    usage: Usage
    timings: Timings | None = None
    context: tuple[int, ...] = ()
    durations: Durations = UNTIMED


@dataclass(frozen=True, slots=True)
class Identity:
    """The head that every piece of one answer repeats; `created` is in Unix seconds.

    `fingerprint` tells what computes it from what did: another one may answer otherwise.
    """

    id: str
    created: int
    model: str
    fingerprint: str = ""
