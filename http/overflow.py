"""Prompts that are too long for a model's context: refused, cut, or summarized by the model."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import accumulate

from ..engine.request import Refusal, over_context
from ..translate.chat import (
    Chat,
    Completion,
    Event,
    GenerateRequest,
    Heartbeat,
    Overflow,
    Shortened,
    TextDelta,
)
from ..translate.overflow import (
    Cuts,
    first_fit,
    guessed,
    older,
    reserve,
    summarized,
    summary_request,
    transcript,
)
from ..translate.renderer import Prompt

TOO_LONG = "context_length_exceeded"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A request whose prompts fit, and these."""

    request: GenerateRequest
    prompts: list[Prompt]


@dataclass(frozen=True, slots=True)
class ContextOverflow:
    """What is done with a prompt that leaves an answer too little of the context.

    `read` makes prompts of a request, `write` an answer of both; `policy` is what a request leaves
    open, `most` the tokens of an answer.
    """

    policy: Overflow
    context: int
    most: int
    read: Callable[[GenerateRequest], Awaitable[list[Prompt]]]
    write: Callable[[GenerateRequest, list[Prompt]], AsyncGenerator[Event, None]]

    async def fitted(self, request: GenerateRequest) -> AsyncGenerator[Fitted | Heartbeat, None]:
        """Yield signs of life while it takes long, and then what fits. Raises Refusal if none does.

        Where prompts are refused, only they themselves have to fit: an answer gets what is left.
        """
        policy = request.options.overflow or self.policy
        if policy == "error" or (policy == "summarize" and isinstance(request, Completion)):
            yield Fitted(request, await self.read(request))
            return
        whole = await self._tried(request)
        if isinstance(whole, Fitted):
            yield whole
        elif isinstance(request, Completion):
            yield await self._cut_off(request)
        elif policy == "truncate":
            yield await self._truncated(request, whole)
        else:
            async with aclosing(self._summarized(request, whole)) as events:
                async for event in events:
                    yield event

    async def _tried(self, request: GenerateRequest) -> Fitted | Refusal:
        """Return the prompts if they leave an answer its room, else why not."""
        try:
            prompts = await self.read(request)
        except Refusal as refusal:
            if refusal.code != TOO_LONG:
                raise
            return refusal
        longest, least = max(len(prompt.tokens) for prompt in prompts), self._reserve(request)
        if longest + least <= self.context:
            return Fitted(request, prompts)
        return over_context(longest, least, self.context)

    def _reserve(self, request: GenerateRequest) -> int:
        return reserve(request.options, self.most, self.context)

    def _share(self, request: GenerateRequest, refusal: Refusal) -> float:
        """Return the share of a prompt that may stay, as far as its tokens are known."""
        tokens = refusal.sizes[0] if refusal.sizes else self.context + 1
        return (self.context - self._reserve(request)) / max(tokens, 1)

    async def _fitting(self, request: GenerateRequest) -> Fitted | None:
        tried = await self._tried(request)
        return tried if isinstance(tried, Fitted) else None

    async def _truncated(self, chat: Chat, refusal: Refusal) -> Fitted:
        cuts = Cuts(chat)
        last, guess = len(cuts.steps) - 1, cuts.guess(self._share(chat, refusal))
        found = await first_fit(lambda step: self._fitting(cuts.chat_at(step)), last, guess)
        if found is None:
            raise refusal
        return found

    async def _summarized(
        self, chat: Chat, refusal: Refusal
    ) -> AsyncGenerator[Fitted | Heartbeat, None]:
        """Have the model summarize what is old, in this request's place, and try again."""
        lines = transcript(older(chat), self.context)  # none, where nothing is old
        gone = [*accumulate(map(len, lines), initial=0)][:-1]
        guess = guessed(gone, sum(map(len, lines)), self._share(chat, refusal))

        async def asked(step: int) -> Fitted | None:
            return await self._fitting(summary_request(chat, lines[step:], self.context))

        found, summary = await first_fit(asked, len(lines) - 1, guess), ""
        if found is None:
            raise refusal
        async with aclosing(self.write(found.request, found.prompts)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    summary += event.text
                elif isinstance(event, Heartbeat):
                    yield event
        fitted = await self._tried(summarized(chat, summary.strip()))
        if isinstance(fitted, Refusal):
            raise fitted
        yield fitted

    async def _cut_off(self, request: Completion) -> Fitted:
        """Cut off the beginnings of bare prompts, but for a token that begins a text."""
        room, lost, ids = self.context - self._reserve(request), 0, list[tuple[int, ...]]()
        for prompt in request.prompts:
            tokens = await self._tokens(replace(request, prompts=(prompt,)))
            cut = max(len(tokens) - room, 0)
            lost += cut
            ids.append(tuple(tokens[cut:]))
        shortened = Shortened("truncate", tokens=lost)
        options = replace(request.options, shortened=shortened)
        request = replace(request, prompts=tuple(ids), options=options)
        return Fitted(request, await self.read(request))

    async def _tokens(self, request: Completion) -> list[int]:
        """Return a prompt's tokens, or those of its end where they were too many to count."""
        while True:
            try:
                return (await self.read(request))[0].tokens
            except Refusal as refusal:
                (prompt,) = request.prompts
                if refusal.code != TOO_LONG or len(prompt) < 2:
                    raise
                request = replace(request, prompts=(prompt[len(prompt) // 2 :],))
