"""The conversation vocabulary between dialects and backends: what is asked, what is answered."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..engine.request import Refusal


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; role is system, user or assistant, `reasoning` an assistant's earlier thinking."""

    role: str
    content: str
    reasoning: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How to generate; None leaves it to the model's own defaults."""

    max_tokens: int | None = None
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
    include_stop: bool = False  # leave the stop string in the text
    n: int = 1
    logprobs: int | None = None  # alternatives a token; None: no logprobs at all
    stream: bool = False
    include_usage: bool = False


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to be continued by `model`."""

    model: str
    messages: tuple[Message, ...]
    options: Options = Options()
    template: dict[str, Any] = field(default_factory=dict)  # chat_template_kwargs
    continue_final: bool = False  # go on in the last message instead of opening a new one
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """Bare prompts to be continued, each a text or token ids; choice i belongs to prompt i // n."""

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    options: Options = Options()
    echo: bool = False
    user: str | None = None


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token as a client sees it, with its natural log probability and its alternatives."""

    text: str
    raw: bytes
    logprob: float | None  # None: the first token of a prompt has none
    top: tuple["TokenText", ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    prompt: int
    completion: int
    cached: int = 0  # of the prompt, found in the prefix cache
    reasoning: int = 0  # of the completion, spent on thinking


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of an answer: prompts are counted and admitted, nothing is generated yet."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class TextDelta:
    choice: int
    text: str
    tokens: tuple[TokenText, ...] = ()  # only where logprobs were asked for


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    choice: int
    text: str
    tokens: tuple[TokenText, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """A choice is over; reason is "stop" or "length", `stop` the stop string met."""

    choice: int
    reason: str
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of a whole answer."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened for a while; tells the client that the connection lives."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer broke off after it had begun."""

    refusal: Refusal


Event = Started | TextDelta | ReasoningDelta | Finish | Done | Heartbeat | Failure


@dataclass(frozen=True, slots=True)
class Choice:
    """A finished choice of an answer that is not streamed."""

    text: str
    reasoning: str
    reason: str
    stop: str | None = None
    tokens: tuple[TokenText, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    choices: tuple[Choice, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Identity:
    """What every piece of one answer repeats. `created` is in Unix seconds."""

    id: str
    created: int
    model: str


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event: a name where the dialect has names, and data without a newline."""

    data: bytes
    name: str | None = None


class StreamEncoder(Protocol):
    """A dialect's stream: fed the events of one answer in order, it says what to send."""

    def encode(self, event: Event) -> Iterable[ServerEvent]: ...
