"""An answer: the engine's requests behind it, and the events of the tokens that come back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from ..engine.request import (
    Constraint,
    GenerationDefaults,
    Prefilled,
    Refusal,
    Refused,
    Request,
    Sampling,
    Started,
    ThoughtBudget,
    Token,
    TokenLogprobs,
    over_context,
)
from ..engine.request import Event as EngineEvent
from ..engine.text.stops import StopMatcher
from ..engine.text.tokenizer import Tokenizer
from .chat import (
    AnswerStarted,
    Chat,
    Done,
    Event,
    Finish,
    GenerateRequest,
    GenerationOptions,
    Progress,
    PromptLogprobs,
    PromptProgress,
    RankedToken,
    ResponseFormat,
    Shown,
    TextDelta,
    Timings,
    TokenText,
    Usage,
)
from .chunks import Chunks
from .decode import invalid
from .echo import Echo
from .output import ChoiceOutput
from .reasoning import most_tokens
from .renderer import Prompt
from .shown_thoughts import Way, shown_thoughts
from .timings import Stopwatch
from .token_rules import TokenRules, token_rules

MAX_SCORES = 2**20  # log probabilities that one answer may ask for, about 110 bytes each

Spelling = Callable[[int], tuple[str, bytes]]  # a token's text and bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of an answer: the model's context and the server's cap, both in tokens.

    `defaults` are the model's own settings for what a request leaves open; `vocabulary` is how
    many ids it has.
    """

    context: int
    max_tokens: int
    defaults: GenerationDefaults
    vocabulary: int


@dataclass(slots=True)
class _Choice:
    """One answer on its way; `echo` gives out the prompt as the tokens come back, if it is to."""

    number: int
    prompt: Prompt
    output: ChoiceOutput
    echo: Echo | None
    way: Way | None = None  # of its thoughts to the client
    cached: int = 0
    computed: int = 0  # tokens of the prompt, those cached among them
    completion: int = 0
    first: int = 0  # tokens that came together, before all others
    started: bool = False
    over: bool = False
    chunks: Chunks | None = None  # where several tokens make a piece
    written: list[int] = field(default_factory=list)  # its tokens, where they are asked for


class SequenceState(Struct, frozen=True):
    """How far a request's answer is, in tokens; `started`: its turn has come."""

    request: Request
    started: bool
    cached: int
    completion: int


class AnswerStream:
    """All choices of one answer: the requests behind them, and the events of what comes back.

    `number` gives each request an id; `seed` is the first choice's, the others count on from it:
    for each prompt anew, if the request chose it. `now` is a clock, in seconds.
    """

    def __init__(
        self,
        request: GenerateRequest,
        prompts: Sequence[Prompt],
        tokenizer: Tokenizer,
        bounds: Bounds,
        number: Callable[[], int],
        seed: int,
        now: Callable[[], float],
    ) -> None:
        self.requests: list[Request] = []
        self._options = request.options
        self._shown: Shown = request.reasoning.shown if isinstance(request, Chat) else "apart"
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._spell = cache(partial(_spelled, tokenizer))  # a text each, however often it is told
        self._started = False
        self._stopwatch = Stopwatch(now)
        self._choices: dict[int, _Choice] = {}
        self._running = len(prompts) * request.options.n
        _refuse_dear(request.options, prompts, bounds)
        rules = token_rules(request.options, tokenizer, bounds.vocabulary)
        for index, prompt in enumerate(prompts):
            start = 0 if request.options.seed is not None else index * request.options.n
            first = _request(number(), request, prompt, bounds, (seed + start) % 2**64, rules)
            echoed = request.options.logprobs if prompt.echo else None
            others = (_other(first, number(), at, echoed) for at in range(1, request.options.n))
            for choice in (first, *others):
                self._choices[choice.id] = self._choice(len(self.requests), prompt, choice)
                self.requests.append(choice)

    @property
    def over(self) -> bool:
        return not self._running

    @property
    def usage(self) -> Usage:
        """The tokens so far; each prompt counts once, however many answers it gets."""
        choices = self._choices.values()
        return Usage(
            prompt=sum(len(prompt.tokens) for prompt in self._prompts),
            completion=sum(choice.completion for choice in choices),
            cached=sum(c.cached for c in choices if c.number % self._options.n == 0),
            reasoning=sum(choice.output.reasoning_tokens for choice in choices),
            shortened=self._options.shortened,
            cache_marked=self._options.cache_marked,
        )

    @property
    def context(self) -> tuple[int, ...]:
        """The tokens of the first prompt and of the answer to it, where they are asked for."""
        if not self._options.return_context:
            return ()
        return (*self._prompts[0].tokens, *next(iter(self._choices.values())).written)

    def sequences(self) -> Iterator["SequenceState"]:
        """Yield how far those are that are not over."""
        for request in self.requests:
            choice = self._choices[request.id]
            if not choice.over:
                yield SequenceState(request, choice.started, choice.cached, choice.completion)

    @property
    def done(self) -> Done:
        """The last event, once it is over."""
        return Done(self.usage, self._timings(), self.context)

    def _timings(self) -> Timings | None:
        """Return the speed so far, where it was asked for; each prompt counts once."""
        if not self._options.timings:
            return None
        firsts = [c for c in self._choices.values() if c.number % self._options.n == 0]
        computed = sum(c.computed - c.cached for c in firsts)
        usage, later = self.usage, sum(c.completion - c.first for c in self._choices.values())
        return self._stopwatch.timings(usage.cached, computed, usage.completion, later)

    def take(self, event: EngineEvent) -> Sequence[Event]:
        """Return the events that one of the engine's brings. Raises Refusal if it refused."""
        match event:
            case Token():
                return self._take_token(self._choices[event.request], event)
            case Started(number, cached):
                return [*self._start(self._choices[number], cached)]
            case Prefilled(number, tokens):
                self._choices[number].computed = tokens
                return [*self._progress(self._choices[number])]
            case Refused():
                raise event.refusal()
        return ()

    def _start(self, choice: _Choice, cached: int) -> Iterator[Event]:
        choice.cached = choice.computed = cached
        choice.started = True
        self._stopwatch.begin()
        if not self._started:
            self._started = True
            yield AnswerStarted(self.usage, len(self._choices))
            yield from self._first_scores()
            yield from self._echoes()
        yield from self._progress(choice)

    def _take_token(self, choice: _Choice, event: Token) -> Sequence[Event]:
        if event.tokens or event.finish is not None:
            choice.computed = len(choice.prompt.tokens)
            self._stopwatch.token()
        events = self._generated(choice, event)
        if choice.way is not None:
            events = [*chain.from_iterable(map(choice.way, events))]
        if event.prompt:
            echoed = () if choice.echo is None else self._echoed(choice.echo, event.prompt)
            events = [*self._scores(choice, event), *echoed, *events]
        if choice.chunks is not None:
            events = choice.chunks.take(events, len(event.tokens), event.finish is not None)
        if self._options.continuous_usage or self._options.timings:
            return [Progress(self.usage, self._timings()), *events]
        return events

    def _progress(self, choice: _Choice) -> Iterator[Event]:
        """Say how far a prompt is, of which its first choice tells."""
        if not self._options.progress or choice.number % self._options.n:
            return
        if self._options.timings:
            yield Progress(self.usage, self._timings())
        seconds = self._stopwatch.prompt_seconds
        about = len(choice.prompt.tokens), choice.cached, choice.computed, seconds
        yield PromptProgress(choice.number, *about)

    def _choice(self, index: int, prompt: Prompt, request: Request) -> _Choice:
        """Read an answer as the worker does, which stops it: by what its request says."""
        tokenizer = self._tokenizer
        specials = tokenizer.specials(request, prompt.call_marks)
        output = ChoiceOutput(
            index,
            prompt.parser(index, specials),
            tokenizer.detokenizer(request.tokens if request.goes_on else ()),
            StopMatcher(request.stop, self._options.include_stop, specials),
            specials,
            request.min_tokens,
            request.stop_in_reasoning,
            len(prompt.text),
        )
        way = shown_thoughts(self._shown, prompt.thought)
        chunk = self._options.stream_chunk or 1
        chunks = Chunks(chunk) if self._options.stream and chunk > 1 else None
        return _Choice(index, prompt, output, self._echo(index, prompt), way, chunks=chunks)

    def _echo(self, index: int, prompt: Prompt) -> Echo | None:
        """Return what echoes a prompt token by token, as it has to with logprobs alone."""
        if not prompt.echo or self._options.logprobs is None:
            return None
        tokenizer, names = self._tokenizer, self._tokenizer.special_names
        return Echo(index, prompt.text, len(prompt.tokens), tokenizer.detokenizer(), names)

    def _first_scores(self) -> Iterator[PromptLogprobs]:
        """Say of the first tokens of prompts that they have no log probabilities."""
        if self._options.prompt_logprobs is not None:
            yield from (PromptLogprobs(c.number, ((),)) for c in self._choices.values())

    def _scores(self, choice: _Choice, event: Token) -> Iterator[PromptLogprobs]:
        """Report a prompt's log probabilities, which its first choice brings, for all of them."""
        top, n = self._options.prompt_logprobs, self._options.n
        if top is not None and choice.number % n == 0:
            tokens = tuple(_ranked(entry, top, self._spell) for entry in event.prompt)
            yield from (PromptLogprobs(choice.number + at, tokens) for at in range(n))

    def _echoes(self) -> Iterator[TextDelta]:
        """Echo the prompts as they stand; with logprobs only the first token, which has none."""
        for choice in self._choices.values():
            if choice.echo is not None:
                first = choice.prompt.tokens[0]
                yield choice.echo.add(first, _token_text(first, None, self._spell))
            elif choice.prompt.echo:
                yield TextDelta(choice.number, choice.prompt.text)

    def _echoed(self, echo: Echo, entries: Sequence[TokenLogprobs]) -> Iterator[TextDelta]:
        """Echo the prompt's other tokens, as their log probabilities come."""
        top = self._options.logprobs
        for entry in entries:
            entry = TokenLogprobs(entry.token, entry.logprob, entry.top[:top])
            yield echo.add(entry.token, _shown(entry, self._spell))

    def _generated(self, choice: _Choice, event: Token) -> list[Event]:
        choice.first = choice.first or len(event.tokens)
        choice.completion += len(event.tokens)
        if self._options.return_context:
            choice.written += event.tokens
        visible = len(event.tokens) - event.hidden
        events: list[Event] = []
        for index, token in enumerate(event.tokens):
            shown: tuple[TokenText, ...] = ()
            if event.logprobs and index < visible:
                shown = (_shown(event.logprobs[index], self._spell),)
            events += choice.output.feed(token, shown, index >= visible)
        if event.finish is not None:
            self._running -= 1
            choice.over = True
            *rest, end = choice.output.finish(event.finish, event.stop)
            assert isinstance(end, Finish)
            # A stop string of the model's own ends its answer as an end of sequence does.
            own = end.stop not in self._options.stop
            events += *rest, Finish(end.choice, end.reason) if own else end
        return events


def _refuse_dear(options: GenerationOptions, prompts: Sequence[Prompt], bounds: Bounds) -> None:
    """Refuse, before anything is made, prompts too long for the model and too many scores."""
    echoed = options.logprobs if any(prompt.echo for prompt in prompts) else None
    each = sum(1 + top for top in (options.prompt_logprobs, echoed) if top is not None)
    drawn = 1 if options.max_tokens is None else min(options.max_tokens, 1)
    least, scores = max(options.min_tokens, drawn), 0
    for prompt in prompts:
        if len(prompt.tokens) + least > bounds.context:
            raise over_context(len(prompt.tokens), least, bounds.context)
        scores += len(prompt.tokens) * each * options.n
    if scores > MAX_SCORES:
        field = "prompt_logprobs" if options.prompt_logprobs is not None else "logprobs"
        raise _too_many(field, f"{scores} log probabilities of prompts")
    if options.stream or options.logprobs is None or options.max_tokens is None:
        return
    most = sum(_max_tokens(options, len(prompt.tokens), bounds) for prompt in prompts)
    if (scores := scores + most * (1 + options.logprobs) * options.n) > MAX_SCORES:
        raise _too_many("logprobs", f"up to {scores} log probabilities", " where stream is false")


def _too_many(field: str, what: str, where: str = "") -> Refusal:
    problem = f"asks for {what}, n answers and all alternatives counted"
    return invalid(field, f"{problem}; at most {MAX_SCORES} can be had{where}")


def _request(
    number: int,
    request: GenerateRequest,
    prompt: Prompt,
    bounds: Bounds,
    seed: int,
    rules: TokenRules,
) -> Request:
    """Return the request of a prompt's first choice, which asks for the prompt's logprobs."""
    options, defaults = request.options, bounds.defaults
    max_tokens = _max_tokens(options, len(prompt.tokens), bounds)
    echoed = options.logprobs if prompt.echo else None
    tops = [top for top in (echoed, options.prompt_logprobs) if top is not None]
    return Request(
        id=number,
        tokens=prompt.tokens,
        max_tokens=max_tokens,
        min_tokens=_min_tokens(options, len(prompt.tokens), defaults, max_tokens),
        ignore_eos=options.ignore_eos,
        stop=list(dict.fromkeys([*options.stop, *defaults.stop])),
        stop_in_reasoning=options.stop_in_reasoning,
        stop_token_ids=[*rules.stops, *(() if options.ignore_eos else prompt.ends)],
        skip_special_tokens=options.skip_special_tokens,
        allowed_token_ids=rules.allowed,
        bad_words=rules.bad_words,
        sampling=_sampling(options, defaults.sampling, seed),
        logprobs=options.logprobs,
        prompt_logprobs=max(tops, default=None),
        salt=options.cache_salt,
        client=request.client,
        progress=options.progress,
        thought=prompt.thought,
        goes_on=prompt.goes_on,
        constraint=prompt.constraint or _constraint(request.response_format),
        budget=_budget(prompt, max_tokens),
    )


def _budget(prompt: Prompt, max_tokens: int) -> ThoughtBudget | None:
    most = most_tokens(prompt.asked, max_tokens)
    if prompt.closing is None or most is None:
        return None
    return replace(prompt.closing, tokens=most)


def _constraint(format: ResponseFormat | None) -> Constraint | None:
    if format is None:
        return None
    kind, definition = format.kind, format.definition
    return Constraint(grammar=kind, definition=definition, field=format.field, strict=format.strict)


def _other(first: Request, number: int, at: int, echoed: int | None) -> Request:
    """Return the request of another choice of the same prompt, which shares all its parts."""
    sampling = replace(first.sampling, seed=(first.sampling.seed + at) % 2**64)
    return replace(first, id=number, sampling=sampling, prompt_logprobs=echoed)


def _max_tokens(options: GenerationOptions, prompt: int, bounds: Bounds) -> int:
    """Return how many tokens an answer may have, within the server's cap and the context."""
    defaults, limit = bounds.defaults, options.max_tokens
    if limit is None:
        limit = defaults.max_tokens
    if limit is None and defaults.max_length is not None and defaults.max_length > prompt:
        limit = defaults.max_length - prompt
    if limit is None:
        limit = options.usual_max_tokens
    limit = bounds.max_tokens if limit is None else min(limit, bounds.max_tokens)
    return max(min(limit, bounds.context - prompt), min(limit, 1))


def _min_tokens(
    options: GenerationOptions, prompt: int, defaults: GenerationDefaults, max_tokens: int
) -> int:
    """Return how many tokens an answer must have; the model's own wish is no cause to refuse."""
    own = defaults.min_tokens or max(defaults.min_length - prompt, 0)
    return options.min_tokens or min(own, max_tokens)


def _sampling(options: GenerationOptions, defaults: Sampling, seed: int) -> Sampling:
    """Return what was asked for, and the model's own defaults for the rest."""
    names = [name for name in Sampling.__struct_fields__ if name not in ("seed", "logit_bias")]
    chosen = {n: getattr(defaults if getattr(options, n) is None else options, n) for n in names}
    return Sampling(seed=seed, logit_bias=options.logit_bias, **chosen)


def _shown(entry: TokenLogprobs, spell: Spelling) -> TokenText:
    top = tuple(_token_text(token, logprob, spell) for token, logprob in entry.top)
    return _token_text(entry.token, entry.logprob, spell, top)


def _ranked(entry: TokenLogprobs, top: int, spell: Spelling) -> tuple[RankedToken, ...]:
    """Return a prompt's token and its alternatives, with their ranks."""
    ranked = [(rank, *each) for rank, each in enumerate(entry.top[:top], 1)]
    others = [each for each in ranked if each[1] != entry.token]
    return tuple(
        RankedToken(token, spell(token)[0], logprob, rank)
        for rank, token, logprob in ((entry.rank, entry.token, entry.logprob), *others)
    )


def _token_text(
    token: int, logprob: float | None, spell: Spelling, top: tuple[TokenText, ...] = ()
) -> TokenText:
    return TokenText(*spell(token), logprob, top)


def _spelled(tokenizer: Tokenizer, token: int) -> tuple[str, bytes]:
    raw = tokenizer.token_bytes(token)
    return raw.decode("utf-8", "replace"), raw
