"""From the hidden states of an input to its vector, as sentence-transformers' modules say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.checkpoint import read_headers
from ..checkpoint.weight_files import CheckpointError, weight_files
from ..checkpoint.weights import FLOATS, TensorFiles
from .sentence_transformers import (
    MODULES,
    DenseFile,
    Description,
    DescriptionError,
    Mode,
    PoolingFile,
)

Floats = NDArray[np.float32]
MIN_LENGTH = 1e-12  # of a vector, when it is divided by its length
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
    """The modes of pooling; with `include_prompt` a prompt's tokens count like the text's."""

    modes: tuple[Mode, ...]
    include_prompt: bool

    def __call__(self, hidden: Floats, prompted: int) -> Floats:
        """Pool (tokens, width), of which the first are a prompt's, to (modes * width,)."""
        first = 0 if self.include_prompt else min(prompted, len(hidden) - 1)
        return np.concatenate([MODES[mode](hidden, first) for mode in self.modes])

    def width(self, width: int) -> int:
        return len(self.modes) * width


@dataclass(frozen=True, slots=True, eq=False)
class DenseModule:
    weight: Floats  # (outputs, inputs)
    bias: Floats | None
    function: Callable[[Floats], Floats]

    def __call__(self, vectors: Floats) -> Floats:
        """Turn (vectors, inputs) into (vectors, outputs)."""
        y = vectors @ self.weight.T
        return self.function(y if self.bias is None else y + self.bias)

    def width(self, width: int) -> int:
        if width != self.weight.shape[1]:
            raise DescriptionError(
                f"a Dense module takes {self.weight.shape[1]} numbers, and it is given {width}"
            )
        return int(self.weight.shape[0])


@dataclass(frozen=True, slots=True)
class Normalize:
    def __call__(self, vectors: Floats) -> Floats:
        """Return the vectors, (vectors, width), each of length 1."""
        lengths = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
        unit: Floats = vectors / np.maximum(lengths, np.float32(MIN_LENGTH))
        return unit

    def width(self, width: int) -> int:
        return width


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """The modules that follow a model of that `width`."""

    pooling: Pooling
    after: tuple[DenseModule | Normalize, ...]
    width: int

    @property
    def dimension(self) -> int:
        """The numbers of a vector."""
        width = self.pooling.width(self.width)
        for step in self.after:
            width = step.width(width)
        return width

    @property
    def normalizes(self) -> bool:
        return any(isinstance(step, Normalize) for step in self.after)

    def __call__(self, hidden: Sequence[Floats], prompted: Sequence[int]) -> Floats:
        """Turn hidden states, each (tokens, width), into vectors, (inputs, dimension)."""
        vectors = np.stack([self.pooling(*each) for each in zip(hidden, prompted, strict=True)])
        for step in self.after:
            vectors = step(vectors)
        return vectors


def load_pipeline(description: Description, width: int) -> Pipeline:
    """Load the modules that follow a model; raises DescriptionError or CheckpointError."""
    modules = description.modules.after
    if not modules or modules[0][0] != "Pooling":
        raise DescriptionError(f"{MODULES}: after the Transformer there is no Pooling")
    file = description.module(modules[0][1], PoolingFile) or PoolingFile()
    after = tuple(_step(description, *each) for each in modules[1:] if each[0] != "Dropout")
    pipeline = Pipeline(Pooling(file.modes, file.include_prompt), after, width)
    assert pipeline.dimension  # refuses widths that do not fit
    return pipeline


def _step(description: Description, kind: str, path: Path) -> DenseModule | Normalize:
    if kind == "Normalize":
        return Normalize()
    if kind == "Dense":
        return _dense(path, description.module(path, DenseFile))
    raise DescriptionError(
        f"{MODULES}: {kind} is not built; Pooling, Dense, Normalize and Dropout are"
    )


def _dense(path: Path, file: DenseFile | None) -> DenseModule:
    if file is None:
        raise DescriptionError(f"{path / 'config.json'} is missing")
    if file.activation_function not in FUNCTIONS:
        known = ", ".join(FUNCTIONS)
        raise DescriptionError(
            f"{path / 'config.json'}: activation_function is {file.activation_function!r}, "
            f"expected one of {known}"
        )
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (file.out_features, file.in_features)}
    if file.bias:
        shapes["linear.bias"] = (file.out_features,)
    arrays = _arrays(weight_files(path).files[0], shapes)
    function = FUNCTIONS[file.activation_function]
    return DenseModule(arrays["linear.weight"], arrays.get("linear.bias"), function)


def _arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """Read a file's tensors, which are these and no others."""
    headers = read_headers(path)
    stored = {name: header.shape for name, header in headers.items()}
    if stored != shapes or any(header.dtype not in FLOATS for header in headers.values()):
        raise CheckpointError(f"{path} has the tensors {stored}, where its config implies {shapes}")
    files = TensorFiles()
    return {name: np.array(files.take(each).astype(mx.float32)) for name, each in headers.items()}


def _weighted(rows: Floats, first: int) -> Floats:
    """Return a mean in which later tokens weigh more, by their position in the input."""
    weights = np.arange(first + 1, len(rows) + 1, dtype=np.float32)
    pooled: Floats = weights @ rows[first:] / weights.sum()
    return pooled
