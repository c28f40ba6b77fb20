"""What a step gives to the layers, and what they keep of each sequence between steps."""

from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from ..kernels.attention.pages import Layout, Pages
from ..kernels.attention.rope import Table
from ..kernels.recurrent.runs import Runs, States
from .layers.rope import Angles

Residual = mx.array | None  # what a layer's result is added to
Cache = Pages | States | None  # one a block, as ModelConfig.caches describes


@dataclass(frozen=True, slots=True, eq=False)
class StepRows:
    """The rows of a step, one a token.

    `layouts` has one for each of ModelConfig.windows; they differ in slots and tables alone.
    `runs`, where layers keep a state or see both ways: the same rows, by sequence. `max_lens`
    (rows,) int32, where a rope varies: how many tokens the row's sequence may come to have;
    `angles` are each rope's where they have been looked up, and `tables`, as in StepContext, where
    they are known already.
    """

    layouts: tuple[Layout, ...]
    positions: mx.array  # (rows,) int32
    runs: Runs | None = None
    max_lens: np.ndarray | None = None
    angles: tuple[Angles, ...] | None = None
    tables: tuple[Table, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StepContext:
    """A step's rows with what every layer needs of them, computed once.

    `tables` has the rotary positions for each of ModelConfig.ropes, `no_rope` the empty ones of
    layers without positions, where there are any. `inputs`: (rows, layers, width), each layer's own
    embeddings. `shared_kv`: by number of their block, keys and values of these rows that later
    blocks take.
    """

    rows: StepRows
    tables: tuple[Table, ...]
    no_rope: Table | None
    inputs: mx.array | None = None
    shared_kv: dict[int, mx.array] = field(default_factory=dict)

    def table(self, rope: int | None) -> Table:
        table = self.no_rope if rope is None else self.tables[rope]
        assert table is not None
        return table
