"""One layer by itself: its parameters by name, and a step of one prompt."""

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from bessemer.architectures.config import BlockConfig, MixerConfig, ModelConfig, NormConfig, Rope
from bessemer.architectures.feed_forward_config import FeedForwardConfig
from bessemer.architectures.layers.rope import Rotary, no_rope_table, table_of
from bessemer.architectures.parameters import Matrix
from bessemer.architectures.step import StepContext, StepRows
from bessemer.kernels.attention.pages import PAGE, Layout, Prefill
from bessemer.kernels.linear.weight import Dense
from bessemer.kernels.recurrent.runs import Runs

from .tiny import Floats, stream

HIDDEN = 32
EPS = 1e-3  # large enough to be seen if it is left out


@dataclass(frozen=True)
class Held:
    """Parameters by name: matrices by their module's, all others by the tensor's."""

    tensors: Mapping[str, mx.array | Matrix]
    dtype: mx.Dtype = mx.float32

    def has(self, name: str) -> bool:
        return name in self.tensors or name.removesuffix(".weight") in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        value = self.tensors[name]
        assert isinstance(value, mx.array)
        return value.shape

    def vector(self, name: str, *shape: int, dtype: mx.Dtype | None = None) -> mx.array:
        value = self.tensors[name]
        assert isinstance(value, mx.array) and value.shape == shape, name
        return value.astype(dtype or self.dtype)

    def stack(
        self, module: str, count: int, rows: int, columns: int, transposed: bool = False
    ) -> Matrix | None:
        return self.matrix(module, count * rows, columns) if module in self.tensors else None

    def matrix(self, module: str, rows: int, columns: int) -> Matrix:
        value = self.tensors[module]
        if isinstance(value, mx.array):
            assert value.shape == (rows, columns), module
            value = Dense(value)
        return value

    def refuse(self, module: str, why: str) -> ValueError:
        return ValueError(f"{module} {why}")


def random_weights(**shapes: tuple[int, ...]) -> dict[str, Floats]:
    """Arrays by name, in which `__` stands for a point; matrices keep the size of their inputs."""
    names = {name.replace("__", "."): shape for name, shape in shapes.items()}
    return {name: draw(name, shape) for name, shape in names.items()}


def draw(name: str, shape: tuple[int, ...]) -> Floats:
    size = np.sqrt(shape[-1]) if len(shape) == 2 else 1.0
    return (stream(name).standard_normal(shape) / size).astype(np.float32)


def held(arrays: Mapping[str, Floats]) -> Held:
    return Held({name: mx.array(value) for name, value in arrays.items()})


def model_of(
    *mixers: MixerConfig | None, feed_forward: FeedForwardConfig | None = None, hidden: int = HIDDEN
) -> ModelConfig:
    """A model of blocks with these mixers, and everything else as small as may be."""
    blocks = tuple(BlockConfig(mixer, feed_forward) for mixer in mixers)
    return ModelConfig("tiny", 64, hidden, 256, blocks, NormConfig(EPS), tied=True)


def prompt(rows: int, *ropes: Rope, groups: int = 1, inputs: mx.array | None = None) -> StepContext:
    """A step of one prompt, in pages from 1 on, whose state is in slot 0."""
    positions = mx.array(np.arange(rows, dtype=np.int32))
    table = mx.array([list(range(1, 2 + (rows - 1) // PAGE))], mx.int32)
    owners = mx.zeros((rows,), mx.int32)
    layout = Layout(positions, positions + PAGE, owners, table, 0, (Prefill(0, rows, rows),))
    step = StepRows((layout,) * groups, positions, Runs.of([rows], [0], [True]))
    tables = tuple(table_of(positions, Rotary.of(rope).angles(None)) for rope in ropes)
    return StepContext(step, tables, no_rope_table(positions), inputs)
