"""How far a precision moves a model's next tokens: KL divergence and top-1 agreement with exact.

Of each window of real text the second half's positions count, as llama.cpp's own tool counts them.
"""

import math
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from bessemer.bench.compare.contest import CaseFailed
from bessemer.bench.contestants.kl_file import write
from bessemer.engine.batch import Batch, Output
from bessemer.engine.engine import Engine
from bessemer.engine.request import Request
from bessemer.engine.serving import load
from bessemer.engine.settings import Settings

WINDOW = 512
COUNTED = WINDOW - 1 - WINDOW // 2  # positions of a window
AT_ONCE = 8  # windows whose probabilities are held together
# What is compared with exact arithmetic, by name.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "auto": {"cpu_precision": "auto"},
    "fast": {"cpu_precision": "fast"},
    "8-bit KV": {"cpu_precision": "exact", "kv_bits": 8},
    "4-bit KV": {"cpu_precision": "exact", "kv_bits": 4},
}
EXACT: Mapping[str, Any] = {"cpu_precision": "exact"}
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
# Compares log probabilities of windows with another's of the same model.
Peer = Callable[[Sequence[Sequence[int]], Sequence[Floats]], "Divergence"]


@dataclass(slots=True)
class Divergence:
    """The KL divergences in nats of so many positions, and how many have the same first token."""

    total: float = 0.0
    squares: float = 0.0
    same: float = 0.0
    count: int = 0

    def add(self, divergences: Floats, same: int) -> None:
        self.total += float(divergences.sum())
        self.squares += float(np.square(divergences).sum())
        self.same += same
        self.count += divergences.size

    def join(self, other: "Divergence") -> None:
        self.total += other.total
        self.squares += other.squares
        self.same += other.same
        self.count += other.count

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        variance = self.squares / self.count - self.mean**2
        return math.sqrt(max(variance, 0.0) / max(self.count - 1, 1))

    @property
    def agreement(self) -> float:
        return self.same / self.count


@dataclass(slots=True)
class Tap:
    """A loaded model whose logits are read where they leave it, before anything is drawn."""

    engine: Engine
    rows: list[Floats] = field(default_factory=list)
    number: int = 0

    def __post_init__(self) -> None:
        self._forward, self.engine.forward = self.engine.forward, self

    _forward: Callable[[Batch], Output] = field(init=False)

    def __call__(self, batch: Batch) -> Output:
        out = self._forward(batch)
        self.rows.append(np.array(out.logits.astype(mx.float32)))
        return out

    def log_probabilities(self, tokens: Sequence[int]) -> Floats:
        """Return those of what follows each counted position, (positions, vocabulary)."""
        self.rows, self.number = [], self.number + 1
        self.engine.submit(
            Request(
                id=self.number,
                tokens=list(tokens),
                max_tokens=0,
                prompt_logprobs=0,
                salt=str(self.number),  # nothing is found again
            )
        )
        for _ in self.engine.run():
            pass
        return log_softmax(np.concatenate(self.rows)[WINDOW // 2 : WINDOW - 1])


def log_softmax(logits: Floats) -> Floats:
    low = logits - logits.max(-1, keepdims=True)
    out: Floats = low - np.log(np.exp(low).sum(-1, keepdims=True))
    return out


def divergences(oracle: Floats, other: Floats) -> Floats:
    """Return KL(oracle, other) of each row of log probabilities, in nats."""
    out: Floats = (np.exp(oracle) * (oracle - other)).sum(-1)
    return out


def tapped(path: Path, settings: Mapping[str, Any], memory: int) -> Tap:
    return Tap(load(path, Settings(max_batch=1, chunk=WINDOW, **settings), memory).engine)


def compare(
    path: Path,
    windows: Sequence[Sequence[int]],
    peers: Mapping[str, Peer],
    variants: Mapping[str, Mapping[str, Any]] = VARIANTS,
    memory: int = 8 * 10**9,
    tell: Callable[[int], None] = lambda _: None,
) -> dict[str, Divergence]:
    """Compare each variant of a model, and each peer, with exact arithmetic on the same windows."""
    exact = tapped(path, EXACT, memory)
    others = {name: tapped(path, settings, memory) for name, settings in variants.items()}
    found = {name: Divergence() for name in (*others, *peers)}
    for start in range(0, len(windows), AT_ONCE):
        some = windows[start : start + AT_ONCE]
        oracle = [exact.log_probabilities(window) for window in some]
        for name, tap in others.items():
            for window, wanted in zip(some, oracle, strict=True):
                got = tap.log_probabilities(window)
                same = int((wanted.argmax(-1) == got.argmax(-1)).sum())
                found[name].add(divergences(wanted, got), same)
        for name, peer in peers.items():
            found[name].join(peer(some, oracle))
        tell(start + len(some))
    return found


@dataclass(frozen=True, slots=True)
class LlamaCppDivergence:
    """llama.cpp's own tool, which reads the probabilities that its own are compared with."""

    program: Path
    model: Path
    threads: int

    def __call__(self, windows: Sequence[Sequence[int]], oracle: Sequence[Floats]) -> Divergence:
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder) / "exact.kld"
            write(base, windows, oracle)
            flags = f"-c {WINDOW} -b {WINDOW} -t {self.threads} --kl-divergence"
            command = [str(self.program), "-m", str(self.model), *flags.split()]
            command += ["--kl-divergence-base", str(base)]
            try:
                done = subprocess.run(command, capture_output=True, text=True)
            except OSError as error:
                raise CaseFailed(f"{self.program} cannot be started: {error.strerror}") from None
        if done.returncode:
            raise CaseFailed(f"{self.program.name} ended with {done.returncode}")
        return read_output(done.stdout + done.stderr, len(windows) * COUNTED)


def read_output(text: str, count: int) -> Divergence:
    """Read what the tool prints at its end. Raises CaseFailed."""
    lines = dict(_figures(text))
    if not {"Mean KLD", "Same top p"} <= lines.keys():
        raise CaseFailed("llama-perplexity printed no KL divergence")
    mean, error = lines["Mean KLD"]
    squares = (error**2 * (count - 1) + mean**2) * count
    return Divergence(mean * count, squares, lines["Same top p"][0] / 100 * count, count)


def _figures(text: str) -> Iterator[tuple[str, tuple[float, float]]]:
    for line in text.splitlines():
        name, _, figures = line.partition(":")
        value, plus, error = figures.replace("%", "").partition("\u00b1")
        if plus:
            yield " ".join(name.split()), (float(value), float(error))
