"""The engine's door: submit requests, cancel them, step; in-process for tests and benches too."""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from time import perf_counter

import mlx.core as mx

from ..architectures.config import Rope
from .batch import Batch, build, logit_count
from .cache_sizes import CacheSizes
from .logit_edits import LastingEdits, LogitEdits, nothing_allowed
from .max_len import max_len_of, rope_key
from .pager import Pager
from .request import Event, Refusal, Refused, Request, Started, StepReport, Token, TokenLogprobs
from .sampler import Sampled, broken_numbers, logprobs_of, sample
from .scheduler import Limits, Scheduler, Work
from .sequence import Sequence
from .text.answer_text import AnswerText
from .token_rules import NO_RULES, GenerationRules


class Engine:
    """Continuous batching over one model; every call is made from one thread.

    `forward` runs a batch (engine.runner) over pools of these `sizes`, `eos_ids` end an answer;
    `text` looks for a request's stop strings in its answer; `ropes` and `rules` are the model's.
    """

    def __init__(
        self,
        forward: Callable[[Batch], mx.array],
        limits: Limits,
        sizes: CacheSizes,
        eos_ids: Seq[int],
        text: Callable[[Request], AnswerText],
        ropes: Seq[Rope] = (),
        rules: GenerationRules = NO_RULES,
    ) -> None:
        self.pager = Pager(sizes, limits.page, limits.chunk)
        self.scheduler = Scheduler(self.pager, limits)
        self._forward = forward
        self._eos_ids = tuple(eos_ids)
        self._text = text
        self._rules = rules
        self._ropes = [rope for rope in ropes if rope.varies]
        self._active: dict[int, Sequence] = {}
        self._lasting: LastingEdits | None = None  # of the last that had some, for its siblings
        self._cost = 0.0, 0.0, 0.0, 0  # seconds and rows of the last step, as in StepReport

    @property
    def busy(self) -> bool:
        return bool(self._active)

    def submit(self, request: Request) -> None:
        """Queue a request.

        Raises Refusal if it can never fit, if no token may be drawn, or if the queue is full.
        """
        if request.constraint is not None:
            message = "This version of Bessemer cannot hold an answer to a grammar yet."
            raise Refusal(400, "unsupported", message, "response_format")
        text = self._text(request) if request.stop else None
        max_len = max_len_of(request, self.scheduler.limits.context) if self._ropes else 0
        sequence = Sequence.of(request, text, max_len, rope_key(self._ropes, max_len))
        room = self.scheduler.limits.context
        known = self._eos_ids, self._rules, room, self._lasting
        sequence.edits = LogitEdits.of(request, sequence.tokens, *known)
        if sequence.edits is not None:
            self._lasting = sequence.edits.lasting
        self.scheduler.add(sequence)
        self._active[request.id] = sequence

    def cancel(self, request: int) -> None:
        """Forget a request before the next step; one that is over already is no mistake."""
        sequence = self._active.pop(request, None)
        if sequence is not None:
            self.scheduler.finish(sequence)

    def step(self) -> list[Event]:
        """Compute one step of everything that runs; return its events, in order."""
        began, self._cost = perf_counter(), (0.0, 0.0, 0.0, 0)
        work, admitted = self.scheduler.schedule()
        events: list[Event] = [Started(each.request.id, each.cached) for each in admitted]
        if not work:
            return events
        batch = build(work, self.pager.take_copies())
        built = perf_counter()
        logits = self._forward(batch)
        computed = perf_counter()
        prompts, ready = self._split(work, logits)
        self.scheduler.commit(work)
        drawing = [(sequence, row) for sequence, row in ready if sequence.request.max_tokens]
        sampled = iter(self._sample(logits, drawing))
        for sequence, _ in ready:
            token = next(sampled) if sequence.request.max_tokens else None
            if token is not None:
                self.pager.judge(sequence, token.token >= 0 or token.banned)
            events.append(self._accept(sequence, token, prompts.pop(sequence.request.id, [])))
        events += [Token(request, [], prompt=entries) for request, entries in prompts.items()]
        rows = sum(item.count for item in work)
        self._cost = built - began, computed - built, perf_counter() - computed, rows
        return events

    def report(self) -> StepReport:
        """Report what the last step cost, and how things stand now."""
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
        """Step until nothing is left to do, yielding the events."""
        while self.busy:
            yield from self.step()

    def _split(
        self, work: Seq[Work], logits: mx.array
    ) -> tuple[dict[int, list[TokenLogprobs]], list[tuple[Sequence, int]]]:
        """Return prompt tokens' logprobs by request, and sequences to sample with their rows."""
        prompts: dict[int, list[TokenLogprobs]] = {}
        ready: list[tuple[Sequence, int]] = []
        end = 0
        for item in work:
            start, end = end, end + logit_count(item)
            if item.last:
                ready.append((item.sequence, end - 1))
            if item.sequence.request.prompt_logprobs is not None and not item.sequence.generated:
                prompts[item.sequence.request.id] = _prompt_logprobs(item, logits[start:end])
        return prompts, ready

    def _sample(self, logits: mx.array, ready: Seq[tuple[Sequence, int]]) -> list[Sampled]:
        if not ready:
            return []
        rows = [row for _, row in ready]
        picked = logits if rows == list(range(logits.shape[0])) else logits[mx.array(rows)]
        return sample(picked, [sequence for sequence, _ in ready])

    def _accept(
        self, sequence: Sequence, sampled: Sampled | None, prompt: list[TokenLogprobs]
    ) -> Event:
        request = sequence.request
        if sampled is None:
            self.cancel(request.id)
            return Token(request.id, [], "length", prompt=prompt)
        if sampled.token < 0:
            self.cancel(request.id)
            if sampled.banned and sequence.generated:
                return Token(request.id, [], "stop", prompt=prompt)
            refusal = nothing_allowed() if sampled.banned else broken_numbers()
            return Refused.of(request.id, refusal)
        sequence.tokens.append(sampled.token)
        finish, stop, hidden = self._ending(sequence, sampled.token)
        if finish:
            self.cancel(request.id)
        logprobs = [sampled.logprobs] if sampled.logprobs else []
        return Token(request.id, [sampled.token], finish, stop, hidden, logprobs, prompt)

    def _ending(self, sequence: Sequence, token: int) -> tuple[str | None, str | None, int]:
        """Return why the answer is over, or None; its stop string; tokens that are not its text."""
        request = sequence.request
        eos_ids = () if request.ignore_eos else self._eos_ids
        hidden = int(token in eos_ids or token in request.stop_token_ids)
        if sequence.text is not None:
            sequence.text.add(token, bool(hidden))
            if sequence.text.stop is not None:
                return "stop", sequence.text.stop, hidden
        if hidden:
            return "stop", None, hidden
        full = len(sequence.tokens) >= self.scheduler.limits.context
        over = full or sequence.generated >= request.max_tokens
        return ("length" if over else None), None, 0


def _prompt_logprobs(item: Work, logits: mx.array) -> list[TokenLogprobs]:
    """Return the logprobs of the prompt tokens after the computed rows, each reported once."""
    sequence = item.sequence
    first = max(sequence.computed + 1, sequence.reported)
    last = min(sequence.computed + item.count + 1, len(sequence.request.tokens))
    if first >= last:
        return []
    rows = logits[first - sequence.computed - 1 : last - sequence.computed - 1]
    sequence.reported = last
    top = sequence.request.prompt_logprobs or 0
    return logprobs_of(rows, sequence.tokens[first:last].tolist(), top)
