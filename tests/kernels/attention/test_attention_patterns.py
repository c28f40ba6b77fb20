"""The three ways in which steps bring a pool up to date on Metal, in any order that MLX allows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.attention import attention_metal as module
from bessemer.kernels.attention.attention import attention_mlx, attention_reference, tables_for
from bessemer.kernels.attention.attention import layout_of as layout_at_once
from bessemer.kernels.attention.attention_metal import attention_metal, self_test
from bessemer.kernels.attention.pages import (
    FENCE,
    PAGE,
    TAIL_PAGES,
    Append,
    Format,
    Heads,
    Layout,
    flush,
    zeros,
)
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import KernelFunction
from bessemer.kernels.simulator.kernel import MetalKernel
from bessemer.kernels.simulator.reorder import Recorded, recording

from ..arrays import normal
from ..orders import orders, replay
from ..steps import layout_of, stale
from .test_attention_metal import CHECK, Way, heads_of, rope_table_of, width

F = mx.float32
FAST = Simulator(SimulatorOptions(mode="fast"))
HEADS = heads_of(2, 1, 32)
LAYERS = 2
LARGE = 2.0e5  # beyond binary16
# Rows of a step: their pages and their lengths. Two sequences go on side by side over the ends of
# pages; then the first one is gone, and the page that it ended in is another's.
TABLES = {"a": [4, 2], "b": [1, 3, 5], "c": [2], "d": [4]}
STEPS = [
    *([("a", 31 + i), ("b", 62 + i)] for i in range(5)),
    *([("b", 67 + i), ("c", 1 + i), ("d", 1 + i)] for i in range(3)),
]


def layout_at(rows: Sequence[tuple[str, int]]) -> Layout:
    return layout_of([(TABLES[name], length, 1) for name, length in rows])


class Engine:
    """Runs the steps' layers; the numbers that go in do not depend on what came out."""

    def __init__(self, way: Way, heads: Heads = HEADS, format: Format = Format.FLOAT32) -> None:
        self.way = way
        self.heads = heads
        self.pools = [stale(6, heads.kv_heads, heads.head_dim, heads.value_dim, format)] * LAYERS
        self.rows: list[str] = []
        self.starts: list[int] = []
        self.lengths: list[int] = []
        self._fill()
        if way == "in place":
            fence = mx.zeros((FENCE,))
            self.pools = [replace(pool, append=Append.IN_PLACE, fence=fence) for pool in self.pools]
        if way == "tail":
            self.pools = [replace(pool, append=Append.TAIL) for pool in self.pools]
        mx.eval([pool.arrays for pool in self.pools])

    def _fill(self) -> None:
        """Fill the pools with what is there before the first step."""
        runs = [(TABLES["a"], 30, 30), (TABLES["b"], 61, 61)]
        layout = layout_of(runs)
        qkv = normal(91, width(self.heads), seed=50)
        table = rope_table_of(layout, self.heads, None)
        self.pools = [
            attention_reference(qkv + layer, self.heads, table, pool, layout)[1]
            for layer, pool in enumerate(self.pools)
        ]

    def step(self, number: int, reference: bool = False) -> list[mx.array]:
        rows = STEPS[number]
        layout = layout_at(rows)
        if self.way == "tail":
            layout = replace(layout, tails=self._starts(rows))
        table = rope_table_of(layout, self.heads, None)
        outs = []
        for layer in range(LAYERS):
            qkv = normal(len(rows), width(self.heads), seed=100 + 10 * number + layer)
            run = attention_reference if reference else attention_metal
            out, self.pools[layer] = run(qkv, self.heads, table, self.pools[layer], layout)
            outs.append(out)
        return outs

    def _starts(self, rows: Sequence[tuple[str, int]]) -> mx.array:
        """Full pages go into the pool while their tails go on; and all, where rows change."""
        names = [name for name, _ in rows]
        goes_on = names == self.rows
        moves = [
            (row, part, TABLES[name][self.starts[row] // PAGE + part])
            for row, name in enumerate(self.rows)
            for part in range(TAIL_PAGES)
            if self.starts[row] + part * PAGE < self.lengths[row]
            and (not goes_on or self.starts[row] + (part + 1) * PAGE <= self.lengths[row])
        ]
        self.pools = [flush(pool, moves, goes_on) for pool in self.pools]
        if goes_on:
            for row, *_ in moves:
                self.starts[row] += PAGE
        else:
            self.starts = [(length - 1) // PAGE * PAGE for _, length in rows]
        self.rows, self.lengths = names, [length for _, length in rows]
        return mx.array(self.starts, mx.int32)

    def run(self) -> list[mx.array]:
        return [out for number in range(len(STEPS)) for out in self.step(number)]


def oracle(heads: Heads, format: Format) -> list[mx.array]:
    engine = Engine("replaced", heads, format)
    return [out for number in range(len(STEPS)) for out in engine.step(number, reference=True)]


def close(out: Sequence[mx.array], oracle: Sequence[mx.array], tolerance: float = 1e-5) -> bool:
    """NaN is not close."""
    return all(
        float(mx.max(mx.abs(a - b))) <= tolerance * float(mx.max(mx.abs(b)))
        for a, b in zip(out, oracle, strict=True)
    )


WAYS: tuple[Way, ...] = ("replaced", "tail", "in place")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("format", [Format.FLOAT32, Format.INT4])
def test_steps_one_after_another(way: Way, format: Format) -> None:
    heads = HEADS if format == Format.FLOAT32 else replace(HEADS, window=35)
    with using(CHECK):
        out = Engine(way, heads, format).run()
    assert close(out, oracle(heads, format))


def attended(dispatches: Sequence[Recorded], results: Sequence[list[mx.array]]) -> list[mx.array]:
    """Return the output of the attention kernel of each dispatch."""
    parts = [
        outputs[0]
        for dispatch, outputs in zip(dispatches, results, strict=True)
        if cast(MetalKernel, dispatch.kernel).definition.name != "rope"
    ]
    assert len(parts) == LAYERS * len(STEPS)
    return parts


@pytest.mark.parametrize("way", WAYS)
def test_any_order_that_mlx_allows(way: Way) -> None:
    with using(FAST):
        engine = Engine(way)
        with recording() as dispatches:
            out = engine.run()
        tried = 0
        for order in orders(dispatches, limit=12, seed=1):
            again = attended(dispatches, replay(dispatches, order))
            assert all(bool(mx.array_equal(a, b)) for a, b in zip(again, out, strict=True))
            tried += 1
    assert tried == 12


def test_a_lost_fence_is_noticed() -> None:
    """The test before relies on it: without the edges that fences make, results change."""
    with using(FAST):
        engine = Engine("in place")
        with recording() as dispatches:
            for number in range(len(STEPS)):
                engine.pools = [replace(pool, fence=mx.zeros((FENCE,))) for pool in engine.pools]
                out = engine.step(number) if number else [*engine.step(0)]
                del out
        recorded = [dispatch.outputs[0] for dispatch in dispatches]
        changed = 0
        for order in orders(dispatches, limit=12, seed=1):
            again = attended(dispatches, replay(dispatches, order))
            changed += not close(again, recorded)
    assert changed >= 10


STEPS_OF_TEST = 3 * 44  # each format begins anew once


def test_the_self_test() -> None:
    with using(FAST):
        assert self_test(STEPS_OF_TEST)


def test_the_self_test_notices_a_device_that_keeps_writes_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch = module._launch

    def forgetful(mode: int, *arguments: object) -> list[mx.array]:
        return launch(module.READ, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_launch", forgetful)
    with using(FAST):
        assert not self_test(STEPS_OF_TEST)


class Losing:
    """A kernel that writes one of its inputs where nobody else reads."""

    def __init__(self, real: KernelFunction, part: str) -> None:
        self._real, self._at = real, real.source.inputs.index(part)

    def bound(self, *arguments: Any, **template: Any) -> Any:
        launch = self._real.bound(*arguments, **template)

        def lost(inputs: list[mx.array]) -> list[mx.array]:
            copied = mx.array(np.array(inputs[self._at]))
            return launch([*inputs[: self._at], copied, *inputs[self._at + 1 :]])

        return lost

    def __call__(self, inputs: list[mx.array], *arguments: Any, **template: Any) -> Any:
        return self.bound(*arguments, **template)(inputs)


@pytest.mark.parametrize("name", ["attention", "attention_quantized", "append_pages"])
@pytest.mark.parametrize("part", ["values", "value_scales", "value_biases"])
def test_the_self_test_notices_a_part_that_a_kernel_does_not_write(
    name: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.kernel

    def kernel(called: str, *arguments: Any, in_place: tuple[str, ...] = ()) -> Any:
        chosen = real(called, *arguments, in_place=in_place)
        return Losing(chosen, part) if called == name and part in in_place else chosen

    monkeypatch.setattr(module, "kernel", kernel)
    module._plan.cache_clear()
    with using(FAST):
        assert self_test(STEPS_OF_TEST) == (name == "attention" and part != "values")
    module._plan.cache_clear()


@pytest.mark.parametrize("format", [Format.INT8, Format.INT4])
def test_quantized_pages_hold_at_its_end_what_is_beyond_binary16(format: Format) -> None:
    """Scales and biases are binary16, and keys of a model in bfloat16 may be larger."""
    tables = tables_for([4])
    pages = zeros(2, 1, 32, 32, format, Append.IN_PLACE)
    layout = layout_at_once(tables, [range(3)])
    k, v = (LARGE * normal(3, 32, seed=seed) for seed in (1, 2))
    qkv = mx.concatenate([normal(3, 64, seed=3), k, v], axis=1)
    table = rope_table_of(layout, HEADS, None)
    mlx = attention_mlx(qkv, HEADS, table, replace(pages, append=Append.FUNCTIONAL), layout)[1]
    with using(FAST):
        out, written = attention_metal(qkv, HEADS, table, pages, layout)
        mx.eval(out, written.arrays)
    pairs = zip(written.parts[2:], mlx.parts[2:], strict=True)
    for part, oracle in ((a, b) for a, b in pairs if a is not None and b is not None):
        assert mx.all(mx.isfinite(part)).item()
        assert close([part.astype(F)], [oracle.astype(F)], 1e-3)
