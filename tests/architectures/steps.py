"""Ragged steps through a decoder, as an engine makes them, over pools that begin full of NaN."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from bessemer.architectures.config import ModelConfig
from bessemer.engine.model import Model
from bessemer.kernels.pages import PAGE, Layout, Pages, Prefill

from .tiny import Floats

POOL = 64  # pages, enough for eight prompts of three pages twice over


class Session:
    """Sequences over one paged cache; pages are dealt out in a scattered order."""

    def __init__(self, model: Model, pages: int = POOL, seed: int = 0) -> None:
        self.model = model
        config = model.config
        self.cache = [stale(config, pages) for _ in range(config.layers)]
        self.free = [int(p) + 1 for p in np.random.RandomState(seed).permutation(pages - 1)]
        self.tables: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}

    def extend(self, sequence: int, count: int) -> tuple[list[int], list[int]]:
        """Positions and slots of a sequence's next tokens."""
        start = self.lengths.get(sequence, 0)
        table = self.tables.setdefault(sequence, [])
        while len(table) * PAGE < start + count:
            table.append(self.free.pop())
        self.lengths[sequence] = start + count
        positions = list(range(start, start + count))
        return positions, [table[p // PAGE] * PAGE + p % PAGE for p in positions]

    def step(
        self, decodes: dict[int, int], prefills: dict[int, Sequence[int]]
    ) -> dict[int, Floats]:
        """One token for each of `decodes`, a run for each of `prefills`: all their logits."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        runs, rows = [], {}
        for sequence, run in [(s, [t]) for s, t in decodes.items()] + list(prefills.items()):
            rows[sequence] = (len(tokens), len(tokens) + len(run))
            at, into = self.extend(sequence, len(run))
            tokens += run
            positions += at
            slots += into
        for sequence in prefills:
            start, stop = rows[sequence]
            runs.append(Prefill(start, stop, self.lengths[sequence]))
        sequences = [*decodes, *prefills]
        owners = [i for i, s in enumerate(sequences) for _ in range(*rows[s])]
        layout = Layout(
            mx.array(positions, mx.int32),
            mx.array(slots, mx.int32),
            mx.array(owners, mx.int32),
            self.padded(sequences),
            len(decodes),
            tuple(runs),
        )
        wanted = mx.arange(len(tokens), dtype=mx.int32)
        logits, self.cache = self.model.decoder(
            mx.array(tokens, mx.int32), layout, self.cache, wanted
        )
        found = np.array(logits)
        return {sequence: found[start:stop] for sequence, (start, stop) in rows.items()}

    def padded(self, sequences: list[int]) -> mx.array:
        tables = [self.tables[s] for s in sequences]
        most = max(map(len, tables), default=0)
        return mx.array([t + [0] * (most - len(t)) for t in tables], mx.int32)


def stale(config: ModelConfig, pages: int) -> Pages:
    """A layer's pool, full of NaN."""
    nan = np.float32("nan")
    keys = np.full((pages, config.kv_heads, config.head_dim, PAGE), nan)
    return Pages(mx.array(keys), mx.array(keys.swapaxes(2, 3).copy()))


def prefill(model: Model, prompt: Sequence[int], chunk: int | None = None) -> Floats:
    """Logits of every position, the prompt in chunks; without one, whole."""
    session = Session(model)
    size = chunk or len(prompt)
    parts = [
        session.step({}, {0: prompt[start : start + size]})[0]
        for start in range(0, len(prompt), size)
    ]
    return np.concatenate(parts)


def token_by_token(model: Model, prompt: Sequence[int]) -> Floats:
    session = Session(model)
    return np.concatenate([session.step({0: token}, {})[0] for token in prompt])


def crowd(model: Model, prompts: Sequence[Sequence[int]], chunk: int) -> list[Floats]:
    """All prompts at once: each step prefills two new ones and feeds a token of each older one.

    A prompt's first `chunk` tokens are its prefill, the rest come as a stream's would.
    """
    session = Session(model, seed=1)
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
