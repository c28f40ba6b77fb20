"""From the hidden states of a passage to its vector, as sentence-transformers' modules say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.checkpoint import SINGLE, CheckpointError, read_headers
from ..checkpoint.weights import FLOATS, Files
from .sentence_transformers import MODULES, DenseFile, Description, Mode, PoolingFile, SentenceError

Floats = NDArray[np.float32]
SMALLEST = 1e-12  # length by which a vector is divided
FUNCTIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "torch.nn.modules.linear.Identity": lambda x: x,
    "torch.nn.modules.activation.Tanh": np.tanh,
    "torch.nn.modules.activation.ReLU": lambda x: np.maximum(x, np.float32(0)),
}
MODES: Mapping[Mode, Callable[[Floats, int], Floats]] = {
    "cls": lambda rows, first: rows[first],
    "max": lambda rows, first: rows[first:].max(axis=0),
    "mean": lambda rows, first: rows[first:].mean(axis=0),
    "mean_sqrt_len_tokens": lambda rows, first: (
        rows[first:].sum(axis=0) / np.float32(np.sqrt(len(rows) - first))
    ),
    "weightedmean": lambda rows, first: _weighted(rows, first),
    "lasttoken": lambda rows, first: rows[-1],
}


@dataclass(frozen=True, slots=True)
class Pooling:
    """`include_prompt`: a prompt's tokens count like the text's."""

    modes: tuple[Mode, ...]
    include_prompt: bool

    def __call__(self, hidden: Floats, prompted: int) -> Floats:
        """(tokens, width), of which the first are a prompt's, to (modes * width,)."""
        first = 0 if self.include_prompt else min(prompted, len(hidden) - 1)
        return np.concatenate([MODES[mode](hidden, first) for mode in self.modes])

    def width(self, width: int) -> int:
        return len(self.modes) * width


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    weight: Floats  # (outputs, inputs)
    bias: Floats | None
    function: Callable[[Floats], Floats]

    def __call__(self, vectors: Floats) -> Floats:
        """(vectors, inputs) to (vectors, outputs)."""
        y = vectors @ self.weight.T
        return self.function(y if self.bias is None else y + self.bias)

    def width(self, width: int) -> int:
        if width != self.weight.shape[1]:
            raise SentenceError(
                f"a Dense module takes {self.weight.shape[1]} numbers, and it is given {width}"
            )
        return int(self.weight.shape[0])


@dataclass(frozen=True, slots=True)
class Normalize:
    def __call__(self, vectors: Floats) -> Floats:
        """(vectors, width) alike, each of length 1."""
        lengths = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
        unit: Floats = vectors / np.maximum(lengths, np.float32(SMALLEST))
        return unit

    def width(self, width: int) -> int:
        return width


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """What follows a model of that `width`."""

    pooling: Pooling
    after: tuple[Dense | Normalize, ...]
    width: int

    @property
    def dimension(self) -> int:
        """Of a vector."""
        width = self.pooling.width(self.width)
        for step in self.after:
            width = step.width(width)
        return width

    @property
    def normalizes(self) -> bool:
        return any(isinstance(step, Normalize) for step in self.after)

    def __call__(self, hidden: Sequence[Floats], prompted: Sequence[int]) -> Floats:
        """Each (tokens, width), to (passages, dimension)."""
        vectors = np.stack([self.pooling(*each) for each in zip(hidden, prompted, strict=True)])
        for step in self.after:
            vectors = step(vectors)
        return vectors


def load(description: Description, width: int) -> Pipeline:
    """Of the modules that follow a model."""
    modules = description.modules.after
    if not modules or modules[0][0] != "Pooling":
        raise SentenceError(f"{MODULES}: after the Transformer there is no Pooling")
    file = description.module(modules[0][1], PoolingFile) or PoolingFile()
    after = tuple(_step(description, *each) for each in modules[1:] if each[0] != "Dropout")
    pipeline = Pipeline(Pooling(file.modes, file.include_prompt), after, width)
    assert pipeline.dimension  # refuses widths that do not fit
    return pipeline


def _step(description: Description, kind: str, path: Path) -> Dense | Normalize:
    if kind == "Normalize":
        return Normalize()
    if kind == "Dense":
        return _dense(path, description.module(path, DenseFile))
    raise SentenceError(
        f"{MODULES}: {kind} is not built; Pooling, Dense, Normalize and Dropout are"
    )


def _dense(path: Path, file: DenseFile | None) -> Dense:
    if file is None:
        raise SentenceError(f"{path / 'config.json'} is missing")
    if file.activation_function not in FUNCTIONS:
        known = ", ".join(FUNCTIONS)
        raise SentenceError(
            f"{path / 'config.json'}: activation_function is {file.activation_function!r}, "
            f"expected one of {known}"
        )
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (file.out_features, file.in_features)}
    if file.bias:
        shapes["linear.bias"] = (file.out_features,)
    arrays = _arrays(path / SINGLE, shapes)
    function = FUNCTIONS[file.activation_function]
    return Dense(arrays["linear.weight"], arrays.get("linear.bias"), function)


def _arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """A file's tensors, which are these and no others."""
    headers = read_headers(path)
    found = {name: header.shape for name, header in headers.items()}
    if found != shapes or any(header.dtype not in FLOATS for header in headers.values()):
        raise CheckpointError(f"{path} has the tensors {found}, where its config implies {shapes}")
    files = Files()
    return {name: np.array(files.take(each).astype(mx.float32)) for name, each in headers.items()}


def _weighted(rows: Floats, first: int) -> Floats:
    """Later tokens weigh more, by their position in the passage."""
    weights = np.arange(first + 1, len(rows) + 1, dtype=np.float32)
    pooled: Floats = weights @ rows[first:] / weights.sum()
    return pooled
