"""A step between its launch and its reading: for whom it computes, and what is drawn of it."""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from .batch import Output, logit_count
from .prefix_cache import Node
from .sampler import Drawn, PromptScores, Sampled, sample, score_prompt
from .scheduler import Work
from .sequence import Sequence, Unread
from .text_vector import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A chunk of a text that is embedded, from token `start` on, with its rows of the states."""

    sequence: Sequence
    start: int
    rows: slice
    last: bool


@dataclass(slots=True, eq=False)
class StepInFlight:
    """A step that was submitted: `ready` are the sequences that end in it, with their logits' rows.

    What is drawn of them is submitted as well: at once for those whose logits stay as they are, and
    for the others when the host knows the tokens before.
    """

    work: Seq[Work]
    logits: mx.array
    hidden: mx.array | None = None  # of the chunks' rows
    chunks: list[Chunk] = field(default_factory=list)
    ready: list[tuple[Sequence, int]] = field(default_factory=list)
    prompts: dict[Sequence, PromptScores] = field(default_factory=dict)
    prefilled: list[tuple[Sequence, int]] = field(default_factory=list)  # prompts' tokens, if asked
    deepest: dict[Sequence, Node] = field(default_factory=dict)  # in the tree, as it was committed
    _drawn: list[tuple[list[Sequence], Drawn]] = field(default_factory=list)
    _later: list[tuple[Sequence, int]] = field(default_factory=list)  # of `ready`, not drawn yet

    @classmethod
    def of(cls, work: Seq[Work], out: Output) -> "StepInFlight":
        """Return the step that this comes of, of which all is drawn that can be already."""
        step = cls(work, out.logits, out.hidden)
        end = 0
        for item in work:
            if item.sequence.request.embeds:
                step._note_chunk(item)
                continue
            start, end = end, end + logit_count(item)
            if item.last:
                step.ready.append((item.sequence, end - 1))
            step._note_progress(item)
            if item.sequence.request.prompt_logprobs is not None and not item.sequence.generated:
                step._score(item, out.logits[start:end])
        now: list[tuple[Sequence, int]] = []
        for place in step.ready:
            (step._later if place[0].is_edited else now).append(place)
        step._draw(now)
        return step

    def draw(self) -> None:
        """Draw the rest of a step that was committed, and leave all tokens to the next one.

        The host knows the tokens before by now, and edits follow them. What was forced behind one
        of them has to be computed first, so nothing is drawn there.
        """
        self.ready = [place for place in self.ready if not place[0].pending]
        self.deepest = {each: each.pages.path[-1] for each, _ in self.ready if each.pages.path}
        self._draw([place for place in self._later if not place[0].pending])
        if not self._drawn:
            return
        parts = [drawn.tokens for _, drawn in self._drawn]
        tokens = parts[0] if len(parts) == 1 else mx.concatenate(parts)
        places = [sequence for sequences, _ in self._drawn for sequence in sequences]
        for index, sequence in enumerate(places):
            sequence.unread = Unread(tokens, index)

    def read(self) -> dict[Sequence, Sampled]:
        """Wait for the tokens, and return each sequence's."""
        return {
            sequence: sampled
            for sequences, drawn in self._drawn
            for sequence, sampled in zip(sequences, drawn.read(), strict=True)
        }

    def read_chunks(self) -> Iterator[tuple[Chunk, Floats]]:
        """Wait for the hidden states, and yield each chunk with its own, (tokens, width)."""
        if self.hidden is not None:
            hidden = np.array(self.hidden)
            yield from ((chunk, hidden[chunk.rows]) for chunk in self.chunks)

    def _note_chunk(self, item: Work) -> None:
        before = self.chunks[-1].rows.stop if self.chunks else 0
        rows = slice(before, before + item.count)
        self.chunks.append(Chunk(item.sequence, item.sequence.computed, rows, item.last))

    def _note_progress(self, item: Work) -> None:
        """Note how much of a prompt the step computes, where its request asks for that."""
        request, end = item.sequence.request, item.sequence.computed + item.count
        if request.progress and end <= len(request.tokens):
            self.prefilled.append((item.sequence, end))

    def _score(self, item: Work, logits: mx.array) -> None:
        """Score the prompt tokens after the computed rows, each once."""
        sequence = item.sequence
        first = max(sequence.computed + 1, sequence.reported)
        last = min(sequence.computed + item.count + 1, len(sequence.request.tokens))
        if first < last:
            rows = logits[first - sequence.computed - 1 : last - sequence.computed - 1]
            tokens, top = sequence.tokens[first:last], sequence.request.prompt_logprobs or 0
            self.prompts[sequence] = score_prompt(rows, tokens, top)
            sequence.reported = last

    def _draw(self, places: Iterable[tuple[Sequence, int]]) -> None:
        wanted = [(sequence, row) for sequence, row in places if sequence.request.max_tokens]
        if wanted:
            rows = [row for _, row in wanted]
            whole = rows == list(range(self.logits.shape[0]))
            logits = self.logits if whole else self.logits[mx.array(rows)]
            sequences = [sequence for sequence, _ in wanted]
            self._drawn.append((sequences, sample(logits, sequences)))
