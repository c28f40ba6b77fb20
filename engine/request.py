"""The requests to an engine and its events, in tokens; imports nothing of ours."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Literal

from msgspec import Struct, structs

# The kinds of grammars that an answer can be held to; each is defined by a text of its own.
Grammar = Literal["json_schema", "json_object", "regex", "choice", "lark", "gbnf"]
MAX_DEFINITION = 2**17  # characters of that text; OpenAI takes schemas of 120,000


@dataclass(eq=False, slots=True)
class Refusal(Exception):
    """A caller's mistake or a limit reached, with its HTTP status and a stable code.

    `field` is the request's field at fault; `retry_after` (seconds) becomes the Retry-After header.
    Where a prompt is too long, `sizes` are its tokens, or a bound below them, and the most allowed.
    """

    status: int
    code: str
    message: str
    field: str | None = None
    retry_after: int | None = None
    sizes: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.message


class Sampling(Struct, frozen=True, kw_only=True):
    """The settings by which a token is sampled, applied in field order; defaults change nothing.

    The order of truncation is that of vLLM and transformers; top_p is over what top_k leaves.
    """

    logit_bias: dict[int, float] = {}
    repetition_penalty: float = 1.0  # over prompt and answer, as in transformers
    presence_penalty: float = 0.0  # over the answer alone, as OpenAI defines it
    frequency_penalty: float = 0.0
    temperature: float = 1.0  # 0 is greedy
    top_k: int = 0  # 0 is off
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0  # 64 bits; the n-th token's draw depends on seed and n alone


class GenerationDefaults(Struct, frozen=True, kw_only=True):
    """A model's own settings for what a request leaves open; lengths count the prompt too."""

    sampling: Sampling = Sampling()
    stop: list[str] = []  # beside the request's
    min_tokens: int = 0
    max_tokens: int | None = None
    min_length: int = 0
    max_length: int | None = None


class Constraint(Struct, frozen=True, kw_only=True):
    """The grammar that the text of an answer is held to; `field` is the request's that asks for it.

    A thought that the answer begins with is free. The answer ends where the grammar does. With
    `heads` it is that of the messages on channels too, after those on the channel of thoughts. Of
    a JSON schema that is not `strict` only what can be kept to is. `fields` are those of the JSON
    schemas in a Lark grammar, in their order.
    """

    grammar: Grammar
    definition: str
    field: str = "response_format"
    fields: tuple[str, ...] = ()
    heads: bool = False
    strict: bool = True


class Thought(Struct, frozen=True, tag="thought"):
    """The marks of a thought that an answer may begin with, and of the text after it, if any.

    A mark is text or names special tokens. `place` says where the prompt leaves the answer: at its
    start, inside a thought or in the text.
    """

    open: str
    close: str
    place: Literal["start", "thought", "text"] = "start"
    begin: str = ""
    end: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        return self.open, self.close, self.begin, self.end


class Channels(Struct, frozen=True, tag="channels"):
    """The messages that an answer has, each on a channel of its own, as gpt-oss writes them.

    `begun` is the head of the message that the prompt leaves the answer in, if any.
    """

    begun: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        return "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", *self.ends

    @property
    def ends(self) -> tuple[str, ...]:
        """The ends of a message: of one that is not the last, of the last, of a call."""
        return "<|end|>", "<|return|>", "<|call|>"


AnswerMarks = Thought | Channels


class ThoughtBudget(Struct, frozen=True, kw_only=True):
    """The most tokens of all thoughts of an answer, and the ids that close one beyond them.

    Those of `closing` come the first time, those of `again` each later one. The first `line` of
    them only end a line, and are left out where it has ended.
    """

    tokens: int
    closing: list[int]
    again: list[int]
    line: int = 0


class Request(Struct, frozen=True, kw_only=True, tag="continue"):
    """One sequence to continue; `tokens` is the whole prompt.

    A `stop` may name special tokens; none counts in a thought unless it is to `stop_in_reasoning`.
    One that `embeds` has no `max_tokens`: an Embedded of one row comes of it, of length 1.
    """

    id: int
    tokens: Sequence[int]
    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: list[str] = []
    stop_in_reasoning: bool = False
    stop_token_ids: list[int] = []
    allowed_token_ids: Sequence[int] | None = None  # None: any may be drawn
    bad_words: list[list[int]] = []  # ids in a row, the last of which is not drawn after the others
    skip_special_tokens: bool = True  # leave their names out of the text
    sampling: Sampling = Sampling()
    logprobs: int | None = None  # alternatives reported beside each generated token
    prompt_logprobs: int | None = None  # the same for the prompt's own tokens
    salt: str = ""  # prefixes are shared only within one salt
    constraint: Constraint | None = None
    thought: AnswerMarks | None = None  # None: it marks none
    budget: ThoughtBudget | None = None  # of its thoughts; None: as long as they get
    goes_on: bool = False  # in the prompt's own text, whose words it may go on with
    client: str = ""  # whose request it is
    progress: bool = False  # tell how far its prompt is computed, step by step
    embeds: bool = False


class Embed(Struct, frozen=True, kw_only=True, tag="embed"):
    """Texts, or bare tokens, to be embedded; `prompt` names one of the model's."""

    id: int
    inputs: list[str | list[int]]
    dimensions: int | None = None
    prompt: str | None = None
    truncate: bool = False
    client: str = ""


class Rank(Struct, frozen=True, kw_only=True, tag="rank"):
    """Documents to be scored by their worth as answers to a query."""

    id: int
    query: str
    documents: list[str]
    prompt: str | None = None
    truncate: bool = False
    client: str = ""


class TokenLogprobs(Struct, frozen=True, array_like=True):
    """The natural log probabilities at a position, before any sampling setting.

    `rank` is a prompt's token's, 1 for the likeliest.
    """

    token: int
    logprob: float
    top: list[tuple[int, float]] = []
    rank: int | None = None


class Started(Struct, frozen=True, array_like=True, tag="started"):
    """A request was admitted; `cached` tokens of its prompt were found in the prefix cache."""

    request: int
    cached: int

    @property
    def over(self) -> bool:
        return False


class Prefilled(Struct, frozen=True, array_like=True, tag="prefilled"):
    """A request that asked for its progress has so many `tokens` of its prompt computed."""

    request: int
    tokens: int

    @property
    def over(self) -> bool:
        return False


class Token(Struct, frozen=True, array_like=True, tag="token"):
    """One step's progress of one request.

    `tokens` are new ids. With `finish` ("stop" or "length") the request is over; `stop` is the
    stop string that ended it, and `hidden` counts trailing tokens that are not part of the text
    (end of sequence, stop token ids). `prompt` holds logprobs of prompt tokens 1, 2, ... where
    they were asked for.
    """

    request: int
    tokens: list[int]
    finish: str | None = None
    stop: str | None = None
    hidden: int = 0
    logprobs: list[TokenLogprobs] = []
    prompt: list[TokenLogprobs] = []

    @property
    def over(self) -> bool:
        return self.finish is not None


class Embedded(Struct, frozen=True, array_like=True, tag="embedded"):
    """The vectors of the inputs `rows`: float32, least byte first, one vector after the other.

    `tokens` counts these inputs' tokens; `over`: nothing more comes.
    """

    request: int
    rows: list[int]
    vectors: bytes
    tokens: int
    over: bool


class Ranked(Struct, frozen=True, array_like=True, tag="ranked"):
    """The scores of the documents `rows`, as in Embedded; a pair's query counts as tokens too."""

    request: int
    rows: list[int]
    scores: list[float]
    tokens: int
    over: bool


class Refused(Struct, frozen=True, array_like=True, tag="refused"):
    """A request ended by a Refusal, carried over the wire."""

    request: int
    status: int
    code: str
    message: str
    field: str | None = None
    retry_after: int | None = None
    sizes: tuple[int, int] | None = None

    @property
    def over(self) -> bool:
        return True

    @classmethod
    def of(cls, request: int, refusal: Refusal) -> "Refused":
        return cls(request, *astuple(refusal))

    def refusal(self) -> Refusal:
        return Refusal(*structs.astuple(self)[1:])


class StepReport(Struct, frozen=True, array_like=True):
    """The cost of an engine's last step, and the state of its queue and its caches after it.

    `prepare` (scheduling, building the batch), `forward` (the model) and `accept` (drawing) are
    seconds. Pages and states in use are those of running sequences: what the prefix cache alone
    holds counts as free. An embedding model has none; its requests wait while they are tokenized.
    """

    prepare: float = 0.0
    forward: float = 0.0
    accept: float = 0.0
    rows: int = 0  # tokens that went through the model
    running: int = 0
    waiting: int = 0
    pages_in_use: int = 0  # of all cache groups together
    pages: int = 0
    states_in_use: int = 0
    states: int = 0
    preemptions: int = 0  # since the start


def over_context(prompt: int, answer: int, context: int) -> Refusal:
    return Refusal(
        400,
        "context_length_exceeded",
        f"The prompt has {prompt} tokens and at least {answer} more are to be generated, but this "
        f"model's context is {context} tokens: shorten the prompt.",
        sizes=(prompt, context - answer),
    )


def overloaded(seconds: int = 1) -> Refusal:
    message = f"Too many requests are waiting; try again in {seconds} s."
    return Refusal(503, "overloaded", message, retry_after=seconds)


def shutting_down() -> Refusal:
    return Refusal(503, "shutting_down", "The server is shutting down.", retry_after=5)


AnyRequest = Request | Embed | Rank
Event = (
    Started | Prefilled | Token | Embedded | Ranked | Refused
)  # `over`: it is its request's last
