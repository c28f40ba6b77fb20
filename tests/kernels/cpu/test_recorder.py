"""What may be recorded, and what a recording is refused for."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.cpu.library import address, library
from bessemer.kernels.cpu.program import Arena, Program
from bessemer.kernels.cpu.recorder import (
    Memory,
    NotRecorded,
    Place,
    Recorder,
    Recording,
    entry,
    recorded_by,
)
from bessemer.kernels.linear.linear import linear
from bessemer.kernels.linear.linear_mlx import Epilogue
from bessemer.kernels.linear.rows import add, join, scaled, shaped, split
from bessemer.kernels.norm.rms_norm import rms_norm
from bessemer.kernels.registry import InC, Operation

from ..arrays import dense, normal, quantized, same
from ..tiers import NATIVE, use

KERNELS = Path(__file__).parents[3] / "kernels"
PACKS = {"op_pack", "op_pack_pair"}
NEVER = {"op_edit", "op_encoder_attention", "op_logprobs", "op_sample", *PACKS}
WEIGHT, ROWS, WIDTH = mx.ones((64,)) * 1.5, 3, 64

Computed = Callable[[mx.array], mx.array]

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")


def recorded(
    compute: Computed, x: mx.array, weights: Sequence[mx.array], fill: int = 0
) -> Recorder:
    recorder = Recorder((Memory(weights), Memory([x])), fill)
    with recorded_by(recorder):
        out = compute(x)
    assert recorder.result(out) == len(recorder.recording.sizes) - 1
    return recorder


def run(recorder: Recorder, shape: tuple[int, ...]) -> mx.array:
    """Run a recording of which the last result is wanted."""
    out = mx.array(np.full(shape, np.nan, np.float32))
    Program(recorder.recording, len(recorder.recording.sizes) - 1, Arena())(address(out))
    return out


def compute(x: mx.array) -> mx.array:
    """A norm, two products, rows taken apart and joined: what layers are made of."""
    y = linear(rms_norm(x, WEIGHT, 1e-5), FIRST, Epilogue(BIAS, residual=x))
    left, right = split(shaped(shaped(y, ROWS, 2, -1), ROWS, -1), [24])
    return linear(add(x, join([right, left]), 0.5), SECOND, Epilogue(residual=scaled(y, 3.0)))


FIRST, SECOND, BIAS = dense(WIDTH, WIDTH), quantized(WIDTH, WIDTH, 32, 4), normal(WIDTH, seed=8)
WEIGHTS = [WEIGHT, FIRST.weight, SECOND.weight, SECOND.scales, SECOND.biases, BIAS]
KEPT = [each for each in WEIGHTS if each is not None]


@pytest.mark.parametrize("tier", NATIVE)
def test_a_program_gives_the_same_bits_for_other_numbers(
    tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tier)
    x = normal(ROWS, WIDTH)
    recorder = recorded(compute, x, KEPT)
    for seed in range(3):
        np.asarray(x)[...] = np.array(normal(ROWS, WIDTH, seed=seed))
        assert same(run(recorder, (ROWS, WIDTH)), compute(x))


def test_nothing_is_computed_while_it_is_recorded() -> None:
    x = normal(ROWS, WIDTH)
    recorder = Recorder((Memory(KEPT), Memory([x])), fill=1)
    with recorded_by(recorder):
        assert np.array(compute(x)).tolist() == [[1] * WIDTH] * ROWS
    assert not same(compute(x), mx.ones((ROWS, WIDTH)))


@pytest.mark.parametrize(
    "between",
    [
        lambda x: x + 0,
        lambda x: mx.stack([x, x])[1],
        lambda x: x[:, ::-1],
        lambda x: x.astype(mx.float16),
        lambda x: mx.array(np.asarray(x)),
        lambda x: mx.where(x > 0, x, x),
        lambda x: mx.ones(x.shape),
    ],
)
def test_what_mlx_computes_is_refused(between: Computed) -> None:
    """At the step's input, between two calls, and as the last word."""
    x = normal(ROWS, WIDTH)
    for out in (
        lambda x: scaled(between(x), 2.0),
        lambda x: scaled(between(scaled(x, 2.0)), 2.0),
        lambda x: between(scaled(x, 2.0)),
    ):
        with pytest.raises(NotRecorded, match="MLX"):
            recorded(out, x, ())


def test_a_view_of_a_result_is_that_result() -> None:
    def compute(x: mx.array) -> mx.array:
        whole = add(x, x)
        return scaled(whole[1:3].reshape(12), 2.0)

    x = normal(4, 6)
    recorder = recorded(compute, x, ())
    assert recorder.calls[1].words[1] == Place(0, 6 * 4)
    assert same(run(recorder, (12,)), (4 * x)[1:3].reshape(12))
    with recorded_by(recorder):
        whole = scaled(x, 2.0)
    with pytest.raises(NotRecorded, match="no result"):
        recorder.result(whole[:2])


def test_a_view_keeps_what_it_is_of_and_what_nobody_holds_is_forgotten() -> None:
    x = normal(4, 6)
    recorder = Recorder((Memory([x]),), fill=0)
    with recorded_by(recorder):
        view = shaped(shaped(add(x, x), 2, 2, 6), 24)
        add(view, view)
        assert [recorder.word(address(view)), *recorder.calls[1].words[:2]] == [Place(0, 0)] * 3
        place = address(view)
        del view
        with pytest.raises(NotRecorded):
            recorder.word(place)


def test_the_last_result_may_be_in_parts() -> None:
    x = normal(ROWS, 8)
    recorder = recorded(lambda x: join([scaled(x, 2.0), x]), x, ())
    assert same(run(recorder, (ROWS, 16)), mx.concatenate([2 * x, x], axis=1))


def test_a_weight_that_nobody_holds_is_refused() -> None:
    x = normal(ROWS, WIDTH)
    for missing in range(len(KEPT)):
        kept = [each for place, each in enumerate(KEPT) if place != missing]
        with pytest.raises(NotRecorded):
            recorded(compute, x, kept)


def test_a_weight_is_converted_once() -> None:
    x, bias = normal(ROWS, WIDTH), BIAS.astype(mx.bfloat16)
    weights, places = Memory([FIRST.weight, bias]), []
    recorder = Recorder((weights, Memory([x])), fill=0)
    for _ in range(2):
        recorder = Recorder((weights, Memory([x])), fill=0)
        with recorded_by(recorder):
            linear(x, FIRST, Epilogue(bias))
        places.append(recorder.calls[0].words[3])
        mx.eval([mx.zeros((WIDTH,)) + i for i in range(9)])  # would take its memory
    assert places[0] == places[1]
    assert same(run(recorder, (ROWS, WIDTH)), linear(x, FIRST, Epilogue(bias)))


def test_recordings_differ_where_a_number_was_taken_from_an_array() -> None:
    x = mx.zeros((ROWS, WIDTH))
    mx.eval(x)

    def by(number: Callable[[mx.array], Any]) -> list[Recording]:
        recordings = []
        for fill in (0, 1):
            np.asarray(x)[...] = fill
            compute = lambda x: add(x, scaled(x, 2.0), number(x))  # noqa: E731
            recordings.append(recorded(compute, x, (), fill).recording)
        return recordings

    one, other = by(lambda x: 0.5)
    assert one == other
    one, other = by(lambda x: x[0, 0].item())  # of an input
    assert one != other
    one, other = by(lambda x: scaled(x, 3.0)[0, 0].item())  # of a result
    assert one != other


def operations() -> dict[str, InC[..., object]]:
    """Find the C form of every operation there is, by its function's name."""
    found = {}
    for path in KERNELS.glob("*/*.py"):
        if path.parent.name not in ("cpu", "metal", "simulator"):
            module = importlib.import_module(f"bessemer.kernels.{path.parent.name}.{path.stem}")
            for value in vars(module).values():
                if isinstance(value, Operation) and value.c is not None and value.c.name:
                    found[value.c.name] = value.c
    return found


def test_words_are_declared_alike_in_python_and_c() -> None:
    """`entry` compares them: all but what is never in a decoding step has an entry."""
    without = set()
    for name, form in operations().items():
        try:
            assert entry(name, form.types)
        except NotRecorded:
            without.add(name)
        else:
            with pytest.raises(AssertionError, match="declared otherwise"):
                entry(name, (*form.types, int))
    assert without == NEVER
