"""The engine's door: submit requests, cancel them, step; in-process for tests and benches too."""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

import mlx.core as mx

from ..architectures.config import Rope
from .batch import Batch, build, wanted
from .cache_sizes import CacheSizes
from .logit_edits import LogitEdits
from .pager import Pager
from .reach import reach_class, reach_of
from .request import Event, Refusal, Refused, Request, Started, StepReport, Token, TokenLogprobs
from .sampler import Drawn, broken_numbers, draw, logprobs_of
from .scheduler import Limits, Scheduler, Work
from .sequence import Sequence as State
from .text import AnswerText


class Engine:
    """Continuous batching over one model; every call is made from one thread.

    `forward` runs a batch (engine.runner) over pools of these `sizes`, `ends` are the ids that end
    an answer; `text` looks for a request's stop strings in its answer; `ropes` are the model's.
    """

    def __init__(
        self,
        forward: Callable[[Batch], mx.array],
        limits: Limits,
        sizes: CacheSizes,
        ends: Sequence[int],
        text: Callable[[Request], AnswerText],
        ropes: Sequence[Rope] = (),
    ) -> None:
        self.pager = Pager(sizes, limits.page, limits.chunk)
        self.scheduler = Scheduler(self.pager, limits)
        self._forward = forward
        self._ends = tuple(ends)
        self._text = text
        self._ropes = [rope for rope in ropes if rope.varies]
        self._active: dict[int, State] = {}
        self._cost = 0.0, 0.0, 0.0, 0  # seconds and rows of the last step, as in StepReport

    @property
    def busy(self) -> bool:
        return bool(self._active)

    def submit(self, request: Request) -> None:
        """Queue a request; raises Refusal if it can never fit or the queue is full."""
        if request.constraint is not None:
            message = "This version of Bessemer cannot hold an answer to a grammar yet."
            raise Refusal(400, "unsupported", message, "response_format")
        text = self._text(request) if request.stop else None
        reach = reach_of(request, self.scheduler.limits.context) if self._ropes else 0
        state = State.of(request, text, reach, reach_class(self._ropes, reach))
        self.scheduler.add(state)
        state.edits = LogitEdits.of(request, state.tokens, self._ends)
        self._active[request.id] = state

    def cancel(self, request: int) -> None:
        """Forget a request before the next step; one that is over already is no mistake."""
        state = self._active.pop(request, None)
        if state is not None:
            self.scheduler.finish(state)

    def step(self) -> list[Event]:
        """Compute one step of everything that runs; what came of it, in order."""
        began, self._cost = perf_counter(), (0.0, 0.0, 0.0, 0)
        work, admitted = self.scheduler.schedule()
        events: list[Event] = [Started(state.request.id, state.cached) for state in admitted]
        if not work:
            return events
        batch = build(work, self.pager.take_copies())
        built = perf_counter()
        logits = self._forward(batch)
        computed = perf_counter()
        prompts, ready = self._split(work, logits)
        self.scheduler.commit(work)
        drawing = [(state, row) for state, row in ready if state.request.max_tokens]
        drawn = iter(self._draw(logits, drawing))
        for state, _ in ready:
            token = next(drawn) if state.request.max_tokens else None
            events.append(self._accept(state, token, prompts.pop(state.request.id, [])))
        events += [Token(request, [], prompt=entries) for request, entries in prompts.items()]
        rows = sum(item.count for item in work)
        self._cost = built - began, computed - built, perf_counter() - computed, rows
        return events

    def report(self) -> StepReport:
        """What the last step cost, and how things stand now."""
        scheduler, pager = self.scheduler, self.pager
        return StepReport(
            *self._cost,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            pages_in_use=pager.pages_total - pager.pages_free,
            pages=pager.pages_total,
            states_in_use=pager.sizes.states - pager.states_free,
            states=pager.sizes.states,
            preemptions=scheduler.preemptions,
        )

    def run(self) -> Iterator[Event]:
        """Step until nothing is left to do."""
        while self.busy:
            yield from self.step()

    def _split(
        self, work: Sequence[Work], logits: mx.array
    ) -> tuple[dict[int, list[TokenLogprobs]], list[tuple[State, int]]]:
        """Logprobs of prompt tokens by request; sequences ready to draw and their rows."""
        prompts: dict[int, list[TokenLogprobs]] = {}
        ready: list[tuple[State, int]] = []
        end = 0
        for item in work:
            start, end = end, end + wanted(item)
            if item.last:
                ready.append((item.sequence, end - 1))
            if item.sequence.request.prompt_logprobs is not None and not item.sequence.generated:
                prompts[item.sequence.request.id] = _prompt_logprobs(item, logits[start:end])
        return prompts, ready

    def _draw(self, logits: mx.array, ready: Sequence[tuple[State, int]]) -> list[Drawn]:
        if not ready:
            return []
        rows = [row for _, row in ready]
        picked = logits if rows == list(range(logits.shape[0])) else logits[mx.array(rows)]
        return draw(picked, [state for state, _ in ready])

    def _accept(self, state: State, drawn: Drawn | None, prompt: list[TokenLogprobs]) -> Event:
        request = state.request
        if drawn is None:
            self.cancel(request.id)
            return Token(request.id, [], "length", prompt=prompt)
        if drawn.token < 0:
            self.cancel(request.id)
            return Refused.of(request.id, broken_numbers())
        state.tokens.append(drawn.token)
        finish, stop, hidden = self._ending(state, drawn.token)
        if finish:
            self.cancel(request.id)
        logprobs = [drawn.logprobs] if drawn.logprobs else []
        return Token(request.id, [drawn.token], finish, stop, hidden, logprobs, prompt)

    def _ending(self, state: State, token: int) -> tuple[str | None, str | None, int]:
        """Why the answer is over, if it is: reason, stop string, tokens that are not its text."""
        request = state.request
        ends = () if request.ignore_eos else self._ends
        if token in ends or token in request.stop_token_ids:
            return "stop", None, 1
        if state.text is not None:
            state.text.add(token)
            if state.text.stop is not None:
                return "stop", state.text.stop, 0
        full = len(state.tokens) >= self.scheduler.limits.context
        over = full or state.generated >= request.max_tokens
        return ("length" if over else None), None, 0


def _prompt_logprobs(item: Work, logits: mx.array) -> list[TokenLogprobs]:
    """Of the prompt tokens that follow the computed rows, each reported once."""
    state = item.sequence
    first = max(state.computed + 1, state.reported)
    last = min(state.computed + item.count + 1, len(state.request.tokens))
    if first >= last:
        return []
    rows = logits[first - state.computed - 1 : last - state.computed - 1]
    state.reported = last
    most = state.request.prompt_logprobs or 0
    return logprobs_of(rows, state.tokens[first:last].tolist(), most)
