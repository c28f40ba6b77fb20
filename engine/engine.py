"""The engine's door: submit requests, cancel them, step; in-process for tests and benches too."""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from time import perf_counter

import numpy as np

from ..architectures.config import Rope
from .batch import Batch, Output, build
from .cache_sizes import CacheSizes
from .grammar.grammars import Grammars
from .in_flight import StepInFlight
from .logit_edits import LastingEdits, LogitEdits, nothing_allowed
from .max_len import max_len_of, rope_key
from .pager import Pager
from .request import (
    Embedded,
    Event,
    Prefilled,
    Refusal,
    Refused,
    Request,
    Started,
    StepReport,
    Token,
    TokenLogprobs,
)
from .sampler import Sampled, broken_numbers
from .scheduler import Limits, Scheduler
from .sequence import Sequence
from .text.answer_text import AnswerText
from .text_vector import TextVector
from .token_rules import NO_RULES, GenerationRules


class Engine:
    """Continuous batching over one model; every call is made from one thread.

    `forward` runs a batch (engine.runner) over pools of these `sizes`, `eos_ids` end an answer;
    `text` looks for a request's stop strings in its answer; `ropes` and `rules` are the model's.
    `ahead`: a step is submitted before the one before it is read, so that the device never waits.
    A sequence that turns out to be over has then computed one token too much, which is dropped.
    `grammars` are those that requests are held to; without them none may be asked for.
    """

    def __init__(
        self,
        forward: Callable[[Batch], Output],
        limits: Limits,
        sizes: CacheSizes,
        eos_ids: Seq[int],
        text: Callable[[Request], AnswerText],
        ropes: Seq[Rope] = (),
        rules: GenerationRules = NO_RULES,
        ahead: bool = False,
        grammars: Grammars | None = None,
    ) -> None:
        self.pager = Pager(sizes, limits.page, limits.longest)
        self.scheduler = Scheduler(self.pager, limits)
        self.forward = forward
        self._eos_ids = tuple(eos_ids)
        self._text = text
        self._rules = rules
        self._ropes = [rope for rope in ropes if rope.varies]
        self._ahead = ahead
        self._in_flight: StepInFlight | None = None
        self._grammars = grammars
        self._active: dict[int, Sequence] = {}
        self._unprepared: dict[Sequence, None] = {}  # those active that wait for a grammar
        self._lasting: LastingEdits | None = None  # of the last that had some, for its siblings
        self._cost = 0.0, 0.0, 0.0, 0  # seconds and rows of the last step, as in StepReport

    @property
    def busy(self) -> bool:
        """Return whether there is something to do: grammars are compiled without the engine."""
        idle = self._grammars is not None and self._grammars.idle
        return len(self._active) > (0 if idle else len(self._unprepared))

    def submit(self, request: Request) -> None:
        """Queue a request.

        Raises Refusal if it can never fit, if no token may be drawn, or if the queue is full.
        """
        text = self._text(request) if request.stop or request.budget else None
        room = self.scheduler.limits.context
        max_len = max_len_of(request, room) if self._ropes else 0
        sequence = Sequence.of(request, text, max_len, rope_key(self._ropes, max_len), room)
        if request.embeds:
            sequence.vector = TextVector()
        else:
            self._edit(sequence, room)
            self._hold(sequence)
        self.scheduler.add(sequence)
        self._active[request.id] = sequence
        if not sequence.is_prepared:
            self._unprepared[sequence] = None

    def cancel(self, request: int) -> None:
        """Forget a request before the next step; one that is over already is no mistake."""
        sequence = self._active.pop(request, None)
        if sequence is not None:
            self.scheduler.finish(sequence)
            self._unprepared.pop(sequence, None)

    def step(self) -> list[Event]:
        """Launch one step of everything that runs, and read the one before; return the events.

        Where nothing runs ahead, it is the same step that is read.
        """
        self._cost = 0.0, 0.0, 0.0, 0
        before, self._in_flight = self._in_flight, None
        refused = self._prepare() if self._unprepared else []
        launched, events = self._launch()
        events = refused + events
        if before is None and launched is None:
            return events
        began = perf_counter()
        events += self._read(before)
        if launched is not None:
            self.scheduler.commit([item for item in launched.work if self._runs(item.sequence)])
            launched.draw()
            if self._ahead:
                self._in_flight = launched if self.busy else None
            else:
                events += self._read(launched)
        building, forward, _, rows = self._cost
        self._cost = building, forward, perf_counter() - began, rows
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
        while self._active:
            yield from self.step()
            if self._grammars is not None and not self.busy:
                self._grammars.wait()

    def _edit(self, sequence: Sequence, room: int) -> None:
        known = self._eos_ids, self._rules, room, self._lasting
        sequence.edits = LogitEdits.of(sequence.request, sequence.tokens, *known)
        if sequence.edits is not None:
            self._lasting = sequence.edits.lasting

    def _hold(self, sequence: Sequence) -> None:
        """Hold a sequence to its grammar, if that is compiled. Raises Refusal if it cannot be."""
        if sequence.request.constraint is None:
            return
        assert self._grammars is not None
        sequence.grammar = self._grammars.answer(sequence.request, self._eos_ids)

    def _prepare(self) -> list[Event]:
        """Hold sequences to the grammar that was compiled since, and have the next one compiled."""
        assert self._grammars is not None
        refused: list[Event] = []
        if not self._grammars.idle:
            return refused
        for sequence in [*self._unprepared]:
            try:
                self._hold(sequence)
            except Refusal as refusal:
                self.cancel(sequence.request.id)
                refused.append(Refused.of(sequence.request.id, refusal))
            if sequence.is_prepared:
                self._unprepared.pop(sequence, None)
        if (following := self.scheduler.first_unprepared()) is not None:
            self._grammars.compile(following.request)
        return refused

    def _launch(self) -> tuple[StepInFlight | None, list[Event]]:
        """Submit the next step, if there is any; return what began with it."""
        began = perf_counter()
        work, admitted = self.scheduler.schedule()
        events: list[Event] = [Started(each.request.id, each.cached) for each in admitted]
        if not work:
            return None, events
        batch = build(work, self.pager.take_copies())
        built = perf_counter()
        launched = StepInFlight.of(work, self.forward(batch))
        rows = sum(item.count for item in work)
        self._cost = built - began, perf_counter() - built, 0.0, rows
        return launched, events

    def _runs(self, sequence: Sequence) -> bool:
        return self._active.get(sequence.request.id) is sequence

    def _read(self, step: StepInFlight | None) -> list[Event]:
        """Wait for a step's tokens and take them in; what is over by now is passed by."""
        if step is None or not any(self._runs(item.sequence) for item in step.work):
            return []
        prompts = {sequence: scores.read() for sequence, scores in step.prompts.items()}
        sampled = step.read()
        events: list[Event] = [
            Prefilled(sequence.request.id, tokens)
            for sequence, tokens in step.prefilled
            if self._runs(sequence)
        ]
        for sequence, _ in step.ready:
            if not self._runs(sequence):
                continue
            sequence.unread = None
            token = sampled.get(sequence)
            if token is not None and (deepest := step.deepest.get(sequence)):
                self.pager.judge(deepest, token.token >= 0 or token.banned)
            events.append(self._accept(sequence, token, prompts.pop(sequence, [])))
        events += self._embed(step)
        return events + [
            Token(sequence.request.id, [], prompt=entries)
            for sequence, entries in prompts.items()
            if self._runs(sequence)
        ]

    def _embed(self, step: StepInFlight) -> Iterator[Event]:
        """Take in the chunks of texts of a step, and yield the vectors of those that end."""
        for chunk, rows in step.read_chunks():
            request, vector = chunk.sequence.request, chunk.sequence.vector
            if not self._runs(chunk.sequence) or vector is None:
                continue
            vector.add(chunk.start, rows)
            if not chunk.last:
                continue
            self.cancel(request.id)
            unit = vector.unit()
            if np.isfinite(unit).all():
                numbers = unit.astype("<f4").tobytes()
                yield Embedded(request.id, [0], numbers, len(request.tokens), True)
            else:
                yield Refused.of(request.id, broken_numbers())

    def _accept(
        self, sequence: Sequence, sampled: Sampled | None, prompt: list[TokenLogprobs]
    ) -> Event:
        request = sequence.request
        if sampled is None:
            self.cancel(request.id)
            return Token(request.id, [], "length", prompt=prompt)
        if sampled.token < 0:
            self.cancel(request.id)
            if sequence.grammar is not None and (refusal := sequence.grammar.refusal) is not None:
                return Refused.of(request.id, refusal)
            whole = sequence.grammar is None or sequence.grammar.is_whole
            if sampled.banned and sequence.generated and whole:
                return Token(request.id, [], "stop", prompt=prompt)
            refusal = nothing_allowed() if sampled.banned else broken_numbers()
            return Refused.of(request.id, refusal)
        tokens = [sampled.token]
        finish, stop, hidden = self._follow(sequence, sampled.token)
        for token in () if finish else _forced(sequence):
            tokens.append(token)
            finish, stop, hidden = self._follow(sequence, token)  # which the next one depends on
            if finish:
                break
        if finish:
            self.cancel(request.id)
        logprobs = [sampled.logprobs] if sampled.logprobs else []
        return Token(request.id, tokens, finish, stop, hidden, logprobs, prompt)

    def _follow(self, sequence: Sequence, token: int) -> tuple[str | None, str | None, int]:
        """Add a token; return why the answer is over, its stop string, its tokens of no text."""
        request = sequence.request
        sequence.tokens.append(token)
        eos_ids = () if request.ignore_eos else self._eos_ids
        hidden = int(token in eos_ids or token in request.stop_token_ids)
        if sequence.text is not None:
            sequence.text.add(token, bool(hidden))
            if sequence.text.stop is not None:
                return "stop", sequence.text.stop, hidden
        if hidden:
            return "stop", None, hidden
        if sequence.grammar is not None:
            sequence.grammar.add(token)
            if sequence.grammar.is_over:
                return "stop", None, 0
        return ("length" if sequence.is_full else None), None, 0


def _forced(sequence: Sequence) -> Iterator[int]:
    """Yield the tokens that have to come next, as each before is followed.

    They close a thought, or are those that its grammar leaves no choice about where nothing else
    has a say. Those with log probabilities are drawn, one by one.
    """
    if sequence.request.logprobs is not None:
        return
    while (token := sequence.forced) is not None:
        yield token
    if sequence.grammar is not None and sequence.edits is None:
        yield from sequence.grammar.forced()
