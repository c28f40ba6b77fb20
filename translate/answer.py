"""An answer: the engine's requests behind it, and the events of the tokens that come back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..engine.request import Event as EngineEvent
from ..engine.request import Refused, Request, Sampling, Started, Token, TokenLogprobs
from ..engine.text.detokenizer import Detokenizer
from ..engine.text.stops import StopMatcher
from ..engine.text.tokenizer import Tokenizer
from .chat import (
    AnswerStarted,
    Event,
    GenerateRequest,
    GenerationOptions,
    Progress,
    PromptLogprobs,
    RankedToken,
    TextDelta,
    TokenText,
    Usage,
)
from .output import ChoiceOutput
from .renderer import Prompt
from .token_rules import TokenRules, token_rules


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of an answer: the model's context and the server's cap, both in tokens.

    `defaults` are the model's own settings for what a request leaves open; `vocabulary` is how
    many ids it has.
    """

    context: int
    max_tokens: int
    defaults: Sampling
    vocabulary: int


@dataclass(slots=True)
class _Choice:
    """One answer on its way; `echo` is the text of the prompt's tokens as they come back."""

    number: int
    prompt: Prompt
    output: ChoiceOutput
    echo: Detokenizer
    cached: int = 0
    completion: int = 0


class AnswerStream:
    """All choices of one answer: the requests behind them, and the events of what comes back.

    `number` gives each request an id; `seed` is the first choice's, the others count on from it:
    for each prompt anew, if the request chose it.
    """

    def __init__(
        self,
        request: GenerateRequest,
        prompts: Sequence[Prompt],
        tokenizer: Tokenizer,
        bounds: Bounds,
        number: Callable[[], int],
        seed: int,
    ) -> None:
        self.requests: list[Request] = []
        self._options = request.options
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._started = False
        self._choices: dict[int, _Choice] = {}
        self._running = len(prompts) * request.options.n
        rules = token_rules(request.options, tokenizer, bounds.vocabulary)
        for index in range(self._running):
            prompt, of_prompt = prompts[index // request.options.n], index % request.options.n
            own = (seed + (index if request.options.seed is None else of_prompt)) % 2**64
            choice = _request(number(), request, prompt, bounds, own, rules, of_prompt == 0)
            self.requests.append(choice)
            self._choices[choice.id] = self._choice(index, prompt)

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
        )

    def take(self, event: EngineEvent) -> Iterator[Event]:
        """Yield the events that one of the engine's brings. Raises Refusal if it refused."""
        match event:
            case Refused():
                raise event.refusal()
            case Started(number, cached):
                self._choices[number].cached = cached
                if not self._started:
                    self._started = True
                    yield AnswerStarted(self.usage, len(self._choices))
                    yield from self._first_scores()
                    yield from self._echoes()
            case Token():
                choice = self._choices[event.request]
                events: list[Event] = [*self._scores(choice, event), *self._echoed(choice, event)]
                events += self._generated(choice, event)
                if self._options.continuous_usage:
                    yield Progress(self.usage)
                yield from events

    def _choice(self, index: int, prompt: Prompt) -> _Choice:
        options, tokenizer = self._options, self._tokenizer
        output = ChoiceOutput(
            index,
            prompt.parser(index),
            tokenizer.detokenizer(),
            StopMatcher(options.stop, options.include_stop),
            tokenizer.special_names,
            options.min_tokens,
        )
        return _Choice(index, prompt, output, tokenizer.detokenizer())

    def _first_scores(self) -> Iterator[PromptLogprobs]:
        """Say of the first tokens of prompts that they have no log probabilities."""
        if self._options.prompt_logprobs is not None:
            yield from (PromptLogprobs(c.number, ((),)) for c in self._choices.values())

    def _scores(self, choice: _Choice, event: Token) -> Iterator[PromptLogprobs]:
        """Report a prompt's log probabilities, which its first choice brings, for all of them."""
        top, n = self._options.prompt_logprobs, self._options.n
        if top is not None and event.prompt and choice.number % n == 0:
            tokens = tuple(_ranked(entry, top, self._tokenizer) for entry in event.prompt)
            yield from (PromptLogprobs(choice.number + at, tokens) for at in range(n))

    def _echoes(self) -> Iterator[TextDelta]:
        """Echo the prompts as they stand; with logprobs only the first token, which has none."""
        for choice in self._choices.values():
            if choice.prompt.echo is None:
                continue
            if self._options.logprobs is None:
                yield TextDelta(choice.number, choice.prompt.echo)
                continue
            first = choice.prompt.tokens[0]
            entry = _token_text(first, None, self._tokenizer)
            yield TextDelta(choice.number, choice.echo.add(first), (entry,))

    def _echoed(self, choice: _Choice, event: Token) -> Iterator[TextDelta]:
        """Echo the prompt's other tokens, as their log probabilities come."""
        top = self._options.logprobs
        if choice.prompt.echo is None or top is None:
            return
        for entry in event.prompt:
            piece = choice.echo.add(entry.token)
            entry = TokenLogprobs(entry.token, entry.logprob, entry.top[:top])
            yield TextDelta(choice.number, piece, (_shown(entry, self._tokenizer),))
        if event.tokens and (rest := choice.echo.flush()):
            yield TextDelta(choice.number, rest)

    def _generated(self, choice: _Choice, event: Token) -> Iterator[Event]:
        choice.completion += len(event.tokens)
        visible = len(event.tokens) - event.hidden
        for index, token in enumerate(event.tokens):
            shown: tuple[TokenText, ...] = ()
            if event.logprobs and index < visible:
                shown = (_shown(event.logprobs[index], self._tokenizer),)
            yield from choice.output.feed(token, shown, hidden=index >= visible)
        if event.finish is not None:
            self._running -= 1
            yield from choice.output.finish(event.finish, event.stop)


def _request(
    number: int,
    request: GenerateRequest,
    prompt: Prompt,
    bounds: Bounds,
    seed: int,
    rules: TokenRules,
    first: bool,
) -> Request:
    """Return a choice's request; the `first` one of a prompt asks for the prompt's logprobs."""
    options = request.options
    echoed = None if prompt.echo is None else options.logprobs
    scored = options.prompt_logprobs if first else None
    tops = [top for top in (echoed, scored) if top is not None]
    return Request(
        id=number,
        tokens=prompt.tokens,
        max_tokens=_max_tokens(options, len(prompt.tokens), bounds),
        min_tokens=options.min_tokens,
        ignore_eos=options.ignore_eos,
        stop=list(options.stop),
        stop_token_ids=rules.stops,
        allowed_token_ids=rules.allowed,
        bad_words=rules.bad_words,
        sampling=_sampling(options, bounds.defaults, seed),
        logprobs=options.logprobs,
        prompt_logprobs=max(tops, default=None),
        salt=options.cache_salt,
        client=request.client,
        thought=prompt.thought,
    )


def _max_tokens(options: GenerationOptions, prompt: int, bounds: Bounds) -> int:
    """Return how many tokens an answer may have, within the server's cap and the context."""
    cap = bounds.max_tokens
    limit = cap if options.max_tokens is None else min(options.max_tokens, cap)
    return max(min(limit, bounds.context - prompt), min(limit, 1))


def _sampling(options: GenerationOptions, defaults: Sampling, seed: int) -> Sampling:
    """Return what was asked for, and the model's own defaults for the rest."""
    names = [name for name in Sampling.__struct_fields__ if name not in ("seed", "logit_bias")]
    chosen = {n: getattr(defaults if getattr(options, n) is None else options, n) for n in names}
    return Sampling(seed=seed, logit_bias=options.logit_bias, **chosen)


def _shown(entry: TokenLogprobs, tokenizer: Tokenizer) -> TokenText:
    top = tuple(_token_text(token, logprob, tokenizer) for token, logprob in entry.top)
    return _token_text(entry.token, entry.logprob, tokenizer, top)


def _ranked(entry: TokenLogprobs, top: int, tokenizer: Tokenizer) -> tuple[RankedToken, ...]:
    """Return a prompt's token and its alternatives, with their ranks."""
    ranked = [(rank, *each) for rank, each in enumerate(entry.top[:top], 1)]
    others = [each for each in ranked if each[1] != entry.token]
    return tuple(
        RankedToken(token, _token_text(token, logprob, tokenizer).text, logprob, rank)
        for rank, token, logprob in ((entry.rank, entry.token, entry.logprob), *others)
    )


def _token_text(
    token: int, logprob: float | None, tokenizer: Tokenizer, top: tuple[TokenText, ...] = ()
) -> TokenText:
    raw = tokenizer.token_bytes(token)
    return TokenText(raw.decode("utf-8", "replace"), raw, logprob, top)
