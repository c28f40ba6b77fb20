"""The joint: a conversation becomes tokens, tokens become the events of an answer."""

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass

from ..engine.request import Event as EngineEvent
from ..engine.request import Refusal, Refused, Request, Sampling, Token, TokenLogprobs
from ..engine.request import Started as Admitted
from ..engine.text import AnswerText
from ..engine.tokenizer import Tokenizer
from ..engine.wire import Ready
from ..translate.chat import (
    Chat,
    Completion,
    Done,
    Event,
    Heartbeat,
    Options,
    Started,
    TextDelta,
    TokenText,
    Usage,
)
from ..translate.output import ChoiceOutput, Thinking
from ..translate.template import opens_reasoning
from .backends import Local

RESTART_PATIENCE = 5.0  # seconds a request waits for a dead worker's successor; it takes about 1


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds without a token until a heartbeat is sent, and until the answer is given up."""

    heartbeat: float = 5.0
    timeout: float = 300.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: its ids, how its answer may begin, and the text that an echo shows."""

    tokens: list[int]
    thinking: Thinking = "no"
    echo: str | None = None


@dataclass(slots=True)
class _Choice:
    """One answer on its way: tokens in, text out; `echo` follows the prompt's tokens."""

    number: int
    prompt: Prompt
    text: AnswerText
    output: ChoiceOutput
    echo: AnswerText
    cached: int = 0
    completion: int = 0


class _Clock:
    """When a silent connection needs a heartbeat, and when the next token is given up."""

    def __init__(self, patience: Patience) -> None:
        self._now = asyncio.get_running_loop().time
        self._patience = patience
        self.token()

    def token(self) -> None:
        now = self._now()
        self._beat = now + self._patience.heartbeat
        self._limit = now + self._patience.timeout

    def tick(self) -> bool:
        """Whether a heartbeat is due. Raises Refusal when the time is up."""
        now = self._now()
        if now > self._limit:
            seconds = self._patience.timeout
            raise Refusal(504, "timeout", f"The model gave no answer within {seconds:g} seconds.")
        if now < self._beat:
            return False
        self._beat = now + self._patience.heartbeat
        return True


async def count(local: Local, ask: Chat) -> int:
    """How many tokens the prompt of a conversation has, also where they are too many."""
    return len((await asyncio.to_thread(_render, local, ask, sys.maxsize)).tokens)


async def answer(
    local: Local, ask: Chat | Completion, longest: int, patience: Patience
) -> AsyncGenerator[Event, None]:
    """The events of an answer: Started, then deltas and a Finish for each choice, then Done.

    `longest` caps an answer's tokens. Raises Refusal, before the first event or after; closing
    the generator cancels what is still running.
    """
    ready = await local.worker.available(RESTART_PATIENCE)
    prompts = await asyncio.to_thread(_prompts, local, ask, ready.plan.context)
    run = _Run(local, ask, prompts, ready, longest)
    clock = _Clock(patience)
    ticket = local.worker.open(run.requests, min(patience.heartbeat, patience.timeout / 4))
    try:
        while not run.over:
            event = await ticket.next()
            if event is not None:
                clock.token()
                for delta in run.take(event):
                    yield delta
            elif clock.tick():
                yield Heartbeat()
        yield Done(run.usage)
    finally:
        ticket.close()


class _Run:
    """All choices of one answer, and the requests behind them."""

    def __init__(
        self,
        local: Local,
        ask: Chat | Completion,
        prompts: Sequence[Prompt],
        ready: Ready,
        longest: int,
    ) -> None:
        self._ask = ask
        self._prompts = prompts
        self._tokenizer = local.tokenizer
        self._started = False
        self._running = len(prompts) * ask.options.n
        seed = secrets.randbits(63) if ask.options.seed is None else ask.options.seed
        self.requests: list[Request] = []
        self._choices: dict[int, _Choice] = {}
        for number in range(len(prompts) * ask.options.n):
            prompt = prompts[number // ask.options.n]
            request = _request(
                local.worker.number(), ask, prompt, ready, longest, (seed + number) % 2**64
            )
            self.requests.append(request)
            self._choices[request.id] = self._choice(number, prompt)

    @property
    def over(self) -> bool:
        return not self._running

    @property
    def usage(self) -> Usage:
        """Each prompt counts once, however many answers it gets."""
        choices = self._choices.values()
        return Usage(
            prompt=sum(len(prompt.tokens) for prompt in self._prompts),
            completion=sum(choice.completion for choice in choices),
            cached=sum(c.cached for c in choices if c.number % self._ask.options.n == 0),
            reasoning=sum(choice.output.reasoning_tokens for choice in choices),
        )

    def take(self, event: EngineEvent) -> Iterator[Event]:
        match event:
            case Refused():
                raise event.refusal()
            case Admitted(number, cached):
                self._choices[number].cached = cached
                if not self._started:
                    self._started = True
                    yield Started(self.usage)
                    yield from self._echoes()
            case Token():
                choice = self._choices[event.request]
                if choice.prompt.echo is not None:
                    yield from self._echoed(choice, event)
                yield from self._generated(choice, event)

    def _choice(self, number: int, prompt: Prompt) -> _Choice:
        options, tokenizer = self._ask.options, self._tokenizer
        text = tokenizer.answer_text(options.stop, options.min_tokens, options.include_stop)
        output = ChoiceOutput(number, prompt.thinking)
        return _Choice(number, prompt, text, output, tokenizer.answer_text())

    def _echoes(self) -> Iterator[TextDelta]:
        """The prompts as they stand; with logprobs only the first token, which has none."""
        for choice in self._choices.values():
            if choice.prompt.echo is None:
                continue
            if self._ask.options.logprobs is None:
                yield TextDelta(choice.number, choice.prompt.echo)
                continue
            first = choice.prompt.tokens[0]
            entry = _token_text(first, None, self._tokenizer)
            yield TextDelta(choice.number, choice.echo.add(first), (entry,))

    def _echoed(self, choice: _Choice, event: Token) -> Iterator[TextDelta]:
        """The prompt's other tokens, as their log probabilities come."""
        for entry in event.prompt:
            piece = choice.echo.add(entry.token)
            yield TextDelta(choice.number, piece, (_shown(entry, self._tokenizer),))
        if event.tokens and (rest := choice.echo.flush()):
            yield TextDelta(choice.number, rest)

    def _generated(self, choice: _Choice, event: Token) -> Iterator[Event]:
        choice.completion += len(event.tokens)
        for index, token in enumerate(event.tokens[: len(event.tokens) - event.hidden]):
            shown: tuple[TokenText, ...] = ()
            if event.logprobs:
                shown = (_shown(event.logprobs[index], self._tokenizer),)
            yield from choice.output.feed(choice.text.add(token), shown)
        if event.finish is not None:
            self._running -= 1
            yield from choice.output.finish(event.finish, event.stop, choice.text.flush())


def _prompts(local: Local, ask: Chat | Completion, context: int) -> list[Prompt]:
    if isinstance(ask, Chat):
        return [_render(local, ask, context)]
    return [_bare(local.tokenizer, prompt, ask.echo, context) for prompt in ask.prompts]


def _render(local: Local, ask: Chat, context: int) -> Prompt:
    text = local.template.render(ask)
    _refuse_hopeless(text, local.tokenizer, context)
    thinking: Thinking = "open" if opens_reasoning(text, ask) else "may"
    return Prompt(local.tokenizer.encode(text, special=False), thinking)


def _bare(tokenizer: Tokenizer, prompt: str | tuple[int, ...], echo: bool, context: int) -> Prompt:
    if isinstance(prompt, str):
        _refuse_hopeless(prompt, tokenizer, context)
        tokens = tokenizer.encode(prompt)
        if not tokens:
            raise Refusal(400, "invalid_value", "The prompt must not be empty.", "prompt")
        return Prompt(tokens, echo=prompt if echo else None)
    if (wrong := max(prompt)) >= tokenizer.size:
        raise Refusal(
            400,
            "invalid_value",
            f"{wrong} is no token id of this model; ids go from 0 to {tokenizer.size - 1}.",
            "prompt",
        )
    return Prompt(list(prompt), echo=tokenizer.decode(prompt) if echo else None)


def _refuse_hopeless(text: str, tokenizer: Tokenizer, context: int) -> None:
    """Spare the tokenizer a text that cannot fit however well it compresses."""
    if len(text) > context * tokenizer.longest:
        raise Refusal(
            400,
            "context_length_exceeded",
            f"The prompt has {len(text)} characters, far more than this model's context of "
            f"{context} tokens can hold: shorten it.",
        )


def _request(
    number: int, ask: Chat | Completion, prompt: Prompt, ready: Ready, longest: int, seed: int
) -> Request:
    options = ask.options
    return Request(
        id=number,
        tokens=prompt.tokens,
        max_tokens=_most(options, len(prompt.tokens), ready.plan.context, longest),
        min_tokens=options.min_tokens,
        ignore_eos=options.ignore_eos,
        stop=list(options.stop),
        stop_token_ids=list(options.stop_token_ids),
        sampling=_sampling(options, ready.defaults, seed),
        logprobs=options.logprobs,
        prompt_logprobs=None if prompt.echo is None else options.logprobs,
    )


def _most(options: Options, prompt: int, context: int, longest: int) -> int:
    """How many tokens an answer may have, within the server's cap and the context."""
    asked = longest if options.max_tokens is None else min(options.max_tokens, longest)
    return max(min(asked, context - prompt), min(asked, 1))


def _sampling(options: Options, defaults: Sampling, seed: int) -> Sampling:
    """What was asked for, and the model's own defaults for the rest."""
    names = [name for name in Sampling.__struct_fields__ if name not in ("seed", "logit_bias")]
    asked = {name: getattr(options, name) for name in names}
    chosen = {
        name: getattr(defaults, name) if value is None else value for name, value in asked.items()
    }
    return Sampling(seed=seed, logit_bias=options.logit_bias, **chosen)


def _shown(entry: TokenLogprobs, tokenizer: Tokenizer) -> TokenText:
    top = tuple(_token_text(token, logprob, tokenizer) for token, logprob in entry.top)
    return _token_text(entry.token, entry.logprob, tokenizer, top)


def _token_text(
    token: int, logprob: float | None, tokenizer: Tokenizer, top: tuple[TokenText, ...] = ()
) -> TokenText:
    raw = tokenizer.token_bytes(token)
    return TokenText(raw.decode("utf-8", "replace"), raw, logprob, top)
