"""What a step gives to the layers, and what they keep of each sequence between steps."""

from dataclasses import dataclass, field

import mlx.core as mx

from ..kernels.attention.pages import Layout, Pages
from ..kernels.attention.rope import Table
from ..kernels.recurrent.runs import Runs, States

Residual = mx.array | None  # what a layer's result is added to
Cache = Pages | States | None  # one a block, as ModelConfig.caches describes


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The rows of a step, one a token.

    `layouts` has one for each of ModelConfig.windows; they differ in slots and tables alone.
    `runs`, where layers keep a state or see both ways: the same rows, by sequence. `reaches`
    (rows,) int32, where a rope varies: how many tokens the row's sequence may come to have.
    """

    layouts: tuple[Layout, ...]
    positions: mx.array  # (rows,) int32
    runs: Runs | None = None
    reaches: mx.array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """A step, with the rotary positions of its rows: a table for each of ModelConfig.ropes.

    `inputs`: (rows, layers, width), each layer's own embeddings. `lent`: by number of their block,
    the keys and values of these rows that later blocks take.
    """

    step: Step
    tables: tuple[Table, ...]
    still: Table | None  # of layers without positions, where there are any
    inputs: mx.array | None = None
    lent: dict[int, mx.array] = field(default_factory=dict)

    def table(self, rope: int | None) -> Table:
        table = self.still if rope is None else self.tables[rope]
        assert table is not None
        return table
