"""An answer: the engine's requests behind it, and the events of the tokens that come back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..engine.request import Event as EngineEvent
from ..engine.request import (
    GenerationDefaults,
    Refused,
    Request,
    Sampling,
    Started,
    Token,
    TokenLogprobs,
)
from ..engine.text.detokenizer import Detokenizer
from ..engine.text.stops import StopMatcher
from ..engine.text.tokenizer import Tokenizer
from .chat import (
    AnswerStarted,
    Event,
    GenerateRequest,
    GenerationOptions,
    TextDelta,
    TokenText,
    Usage,
)
from .output import ChoiceOutput
from .renderer import Prompt


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of an answer: the model's context and the server's cap, both in tokens.

    `defaults` are the model's own settings for what a request leaves open.
    """

    context: int
    max_tokens: int
    defaults: GenerationDefaults


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

    `number` gives each request an id; `seed` is the first choice's, the others count on from it.
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
        for index in range(self._running):
            prompt = prompts[index // request.options.n]
            choice = _request(number(), request, prompt, bounds, (seed + index) % 2**64)
            self.requests.append(choice)
            self._choices[choice.id] = self._choice(index, prompt, choice)

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
                    yield AnswerStarted(self.usage)
                    yield from self._echoes()
            case Token():
                choice = self._choices[event.request]
                if choice.prompt.echo is not None:
                    yield from self._echoed(choice, event)
                yield from self._generated(choice, event)

    def _choice(self, index: int, prompt: Prompt, request: Request) -> _Choice:
        options, tokenizer = self._options, self._tokenizer
        output = ChoiceOutput(
            index,
            prompt.parser(index),
            tokenizer.detokenizer(),
            StopMatcher(request.stop, options.include_stop),
            tokenizer.special_names,
            request.min_tokens,
        )
        return _Choice(index, prompt, output, tokenizer.detokenizer())

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
        for entry in event.prompt:
            piece = choice.echo.add(entry.token)
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
            asked = event.stop in self._options.stop  # else it is the model's own
            yield from choice.output.finish(event.finish, event.stop if asked else None)


def _request(
    number: int, request: GenerateRequest, prompt: Prompt, bounds: Bounds, seed: int
) -> Request:
    options, defaults = request.options, bounds.defaults
    max_tokens = _max_tokens(options, len(prompt.tokens), bounds)
    return Request(
        id=number,
        tokens=prompt.tokens,
        max_tokens=max_tokens,
        min_tokens=_min_tokens(options, len(prompt.tokens), defaults, max_tokens),
        ignore_eos=options.ignore_eos,
        stop=list(dict.fromkeys([*options.stop, *defaults.stop])),
        stop_token_ids=list(options.stop_token_ids),
        sampling=_sampling(options, defaults.sampling, seed),
        logprobs=options.logprobs,
        prompt_logprobs=None if prompt.echo is None else options.logprobs,
        client=request.client,
        thought=prompt.thought,
    )


def _max_tokens(options: GenerationOptions, prompt: int, bounds: Bounds) -> int:
    """Return how many tokens an answer may have, within the server's cap and the context."""
    defaults, limit = bounds.defaults, options.max_tokens
    if limit is None:
        limit = defaults.max_tokens
    if limit is None and defaults.max_length is not None and defaults.max_length > prompt:
        limit = defaults.max_length - prompt
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


def _shown(entry: TokenLogprobs, tokenizer: Tokenizer) -> TokenText:
    top = tuple(_token_text(token, logprob, tokenizer) for token, logprob in entry.top)
    return _token_text(entry.token, entry.logprob, tokenizer, top)


def _token_text(
    token: int, logprob: float | None, tokenizer: Tokenizer, top: tuple[TokenText, ...] = ()
) -> TokenText:
    raw = tokenizer.token_bytes(token)
    return TokenText(raw.decode("utf-8", "replace"), raw, logprob, top)
