"""A causal convolution of each channel, whose last inputs are a sequence's state."""

from collections.abc import Iterator
from functools import cache

import mlx.core as mx
import numpy as np

from .cpu.library import INT, POINTER, Function, address, array, library, output, ready
from .cpu.library import optional as optional_address
from .metal.device import device
from .metal.library import kernel, padded, scalar
from .registry import Key, Operation, bucket
from .runs import Runs

WIDEST = 8  # as in conv1d.c

STRETCH = 32  # rows of a thread, as in conv1d.metal
THREADS = 64  # of a threadgroup: few, for one sequence's must spread over cores


def conv1d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    state: mx.array,
    runs: Runs,
    silu: bool = True,
) -> tuple[mx.array, mx.array]:
    """(rows, channels) alike, and the next state: drop the old one, it may be written in place.

    weight: (width, channels) float32, its last row for the token itself; state: (slots, width - 1,
    channels) float32, oldest first.
    """
    width = weight.shape[0]
    assert 2 <= width <= WIDEST and state.shape[1:] == (width - 1, x.shape[1])
    if device() is not None and x.size:
        return CONV1D(x, weight, bias, state, runs, silu)
    native = _native()
    if native is None or not x.size:
        return conv1d_reference(x, weight, bias, state, runs, silu)
    x, weight = ready(x), ready(weight)
    bias = None if bias is None else ready(bias)
    mx.eval(state)
    out = output(*x.shape)
    native(
        address(x),
        address(weight),
        optional_address(bias),
        address(state),
        *(address(part) for part in (runs.starts, runs.slots, runs.fresh)),
        len(runs.slots),
        x.shape[1],
        width,
        silu,
        address(out),
    )
    return array(out), state


def conv1d_metal(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    state: mx.array,
    runs: Runs,
    silu: bool = True,
) -> tuple[mx.array, mx.array]:
    """The same; a long run in stretches that do not wait for each other."""
    channels = x.shape[1]
    parts = (weight, weight if bias is None else bias, state)
    out, new = kernel("conv1d")(
        [
            padded(x),
            *(padded(part.astype(mx.float32)) for part in parts),
            runs.table(),
            scalar(channels, mx.int32),
        ],
        [(x.shape, x.dtype), ((len(runs.slots), *state.shape[1:]), mx.float32)],
        (-(-channels // 4), len(runs.slots), max(1, -(-runs.longest // STRETCH))),
        (THREADS, 1, 1),
        T=x.dtype,
        WIDTH=weight.shape[0],
        BIAS=bias is not None,
        SILU=silu,
    )
    return out, runs.stored(state, new)


def conv1d_reference(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    state: mx.array,
    runs: Runs,
    silu: bool = True,
) -> tuple[mx.array, mx.array]:
    """The definition: a sequence's inputs follow its state, and a window slides over both."""
    width = weight.shape[0]
    outputs = [mx.zeros((0, x.shape[1]), x.dtype)]
    kept = []
    for i, fresh in enumerate(runs.fresh.tolist()):
        start, stop = int(runs.starts[i]), int(runs.starts[i + 1])
        before = state[int(runs.slots[i])]
        before = mx.zeros_like(before) if fresh else before
        inputs = mx.concatenate([before, x[start:stop]], axis=0)
        windows = [inputs[j : j + stop - start] * weight[j] for j in range(width)]
        y = sum(windows[1:], windows[0])
        y = y if bias is None else y + bias
        outputs.append((y * mx.sigmoid(y) if silu else y).astype(x.dtype))
        kept.append(inputs[stop - start :])
    state = mx.array(state)
    if kept:
        state[mx.array(runs.slots.astype(np.int32))] = mx.stack(kept).astype(state.dtype)
    return mx.concatenate(outputs, axis=0), state


@cache
def _native() -> Function | None:
    found = library()
    types = (*(POINTER,) * 7, INT, INT, INT, INT, POINTER)
    return None if found is None else found.function("op_conv1d", *types)


def _key(x: mx.array, weight: mx.array, *rest: object) -> Key:
    bias, _, runs, *_ = rest
    assert isinstance(runs, Runs)
    steps = (bucket(len(runs.slots)), bucket(runs.longest))
    return (*steps, *weight.shape, x.dtype, bias is not None)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, mx.array, None, mx.array, Runs]]:
    """One token each, and a run that is longer than a thread's stretch; odd numbers of channels."""
    for lengths, channels in (([1, 1], 7), ([STRETCH + 1, 2], 9)):
        runs = Runs.of(lengths, [2, 0], [True, False])
        x = mx.random.normal((sum(lengths), channels)).astype(dtype)
        yield (
            x,
            mx.random.normal((4, channels)),
            None,
            mx.random.normal((3, 3, channels)),
            runs,
        )


CONV1D = Operation(
    "conv1d", ("conv1d.metal",), conv1d_metal, conv1d_reference, conv1d_reference, _key, _edges
)
