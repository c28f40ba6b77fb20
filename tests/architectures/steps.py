"""Ragged steps through a decoder, as an engine makes them, over caches that begin full of NaN."""

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from bessemer.architectures.config import Paged, Recurrent
from bessemer.architectures.step import Cache, StepRows
from bessemer.engine.model import Model
from bessemer.kernels.attention.pages import PAGE, Layout, Pages, Prefill
from bessemer.kernels.recurrent.runs import Runs, States

from .tiny import Floats

POOL = 64  # pages, enough for eight prompts of three pages twice over
SLOTS = 80  # for states


class Session:
    """Sequences over one cache; pages are dealt out in a scattered order.

    `max_len` says how many tokens a sequence may come to have. Pages that a window has left behind
    are taken out of its table: what stands there instead is full of NaN.
    """

    def __init__(
        self, model: Model, max_len: Callable[[int], int], pages: int = POOL, seed: int = 0
    ) -> None:
        self.model, self.max_len = model, max_len
        config = model.config
        self.windows = config.windows
        self.cache = [stale(spec, pages) for spec in config.caches]
        self.recurrent = any(isinstance(spec, Recurrent) for spec in config.caches)
        random = np.random.RandomState(seed)
        self.free = [[int(p) + 1 for p in random.permutation(pages - 1)] for _ in self.windows]
        self.state_slots = [int(place) for place in random.permutation(SLOTS)]
        self.tables: dict[int, list[list[int]]] = {}
        self.lengths: dict[int, int] = {}

    def extend(self, sequence: int, count: int) -> list[int]:
        """Positions of a sequence's next tokens, for which it then has pages."""
        start = self.lengths.get(sequence, 0)
        tables = self.tables.setdefault(sequence, [[] for _ in self.windows])
        for table, free, window in zip(tables, self.free, self.windows, strict=True):
            while len(table) * PAGE < start + count:
                table.append(free.pop())
            for page in range(0 if window is None else max(0, start - window + 1) // PAGE):
                table[page] = 0
        self.lengths[sequence] = start + count
        return list(range(start, start + count))

    def step(
        self, decodes: dict[int, int], prefills: dict[int, Sequence[int]]
    ) -> dict[int, Floats]:
        """Feed a token of each of `decodes` and a run of each of `prefills`; return all logits."""
        runs = {s: [token] for s, token in decodes.items()} | {
            s: list(r) for s, r in prefills.items()
        }
        fresh = [sequence not in self.lengths for sequence in runs]
        positions = [self.extend(sequence, len(run)) for sequence, run in runs.items()]
        stops = np.cumsum([len(run) for run in runs.values()]).tolist()
        rows = {s: (end - len(run), end) for (s, run), end in zip(runs.items(), stops, strict=True)}
        layouts = tuple(
            self.layout(group, list(runs), positions, len(decodes), rows)
            for group in range(len(self.windows))
        )
        flat = mx.array([position for each in positions for position in each], mx.int32)
        max_lens = [self.max_len(s) for s, run in runs.items() for _ in run]
        lengths = [len(run) for run in runs.values()]
        state_slots = [self.state_slots[s] for s in runs]
        varies = any(rope.varies for rope in self.model.config.ropes)
        step = StepRows(
            layouts,
            flat,
            Runs.of(lengths, state_slots, fresh) if self.recurrent else None,
            np.array(max_lens, np.int32) if varies else None,
        )
        tokens = mx.array([token for run in runs.values() for token in run], mx.int32)
        every_row = mx.arange(tokens.size, dtype=mx.int32)
        logits, self.cache = self.model.decoder(tokens, step, self.cache, every_row)
        flat_logits = np.array(logits.astype(mx.float32))
        return {sequence: flat_logits[start:stop] for sequence, (start, stop) in rows.items()}

    def layout(
        self,
        group: int,
        sequences: list[int],
        positions: list[list[int]],
        decodes: int,
        rows: dict[int, tuple[int, int]],
    ) -> Layout:
        tables = [self.tables[s][group] for s in sequences]
        width = max(map(len, tables), default=0)
        slot_mapping = [
            table[p // PAGE] * PAGE + p % PAGE
            for table, each in zip(tables, positions, strict=True)
            for p in each
        ]
        owners = [i for i, each in enumerate(positions) for _ in each]
        runs = [Prefill(*rows[s], self.lengths[s]) for s in sequences[decodes:]]
        return Layout(
            mx.array([p for each in positions for p in each], mx.int32),
            mx.array(slot_mapping, mx.int32),
            mx.array(owners, mx.int32),
            mx.array([t + [0] * (width - len(t)) for t in tables], mx.int32),
            decodes,
            tuple(runs),
        )


def stale(spec: Paged | Recurrent | None, pages: int) -> Cache:
    """A layer's cache, full of NaN."""
    nan = float("nan")
    match spec:
        case None:
            return None
        case Recurrent(shapes):
            return States(tuple(mx.full((SLOTS, *shape), nan) for shape in shapes))
        case Paged():
            keys = mx.full((pages, spec.kv_heads, spec.head_dim, PAGE), nan)
            values = mx.full((pages, spec.kv_heads, PAGE, spec.value_dim), nan)
            return Pages(keys, values if spec.value_dim else None)


def prefill(model: Model, prompt: Sequence[int], chunk: int | None = None) -> Floats:
    """Return logits of every position; the prompt is fed in chunks, or at once without `chunk`."""
    session = Session(model, lambda _: len(prompt))
    size = chunk or len(prompt)
    parts = [
        session.step({}, {0: prompt[start : start + size]})[0]
        for start in range(0, len(prompt), size)
    ]
    return np.concatenate(parts)


def token_by_token(model: Model, prompt: Sequence[int]) -> Floats:
    session = Session(model, lambda _: len(prompt))
    return np.concatenate([session.step({0: token}, {})[0] for token in prompt])


def crowd(model: Model, prompts: Sequence[Sequence[int]], chunk: int) -> list[Floats]:
    """All prompts at once: each step prefills two new ones and feeds a token of each older one.

    A prompt's first `chunk` tokens are its prefill, the rest come as a stream's would.
    """
    session = Session(model, lambda i: len(prompts[i]), seed=1)
    parts: list[list[Floats]] = [[] for _ in prompts]
    while any(session.lengths.get(i, 0) < len(p) for i, p in enumerate(prompts)):
        new = [i for i in range(len(prompts)) if i not in session.lengths][:2]
        decodes = {
            i: prompts[i][length]
            for i, length in session.lengths.items()
            if length < len(prompts[i])
        }
        for i, logits in session.step(decodes, {i: prompts[i][:chunk] for i in new}).items():
            parts[i].append(logits)
    return [np.concatenate(part) for part in parts]
