"""A causal convolution of each channel; its last inputs are a sequence's state."""

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx

from ..cpu.library import ARRAY, INT, VALUES, Function, array, output
from ..metal.library import kernel, padded, scalar
from ..registry import InMetal, Key, Operation, bucket, in_c, is_filled
from .runs import Runs

MAX_WIDTH = 8  # as in conv1d.c

STRETCH = 32  # rows of a thread, as in conv1d.metal
THREADS = 64  # a threadgroup has few, for one sequence's must spread over cores


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """Taps (width, channels) float32, the last row for the token itself; bias: (channels,)."""

    weight: mx.array
    bias: mx.array | None = None
    silu: bool = True

    def __post_init__(self) -> None:
        assert 2 <= self.weight.shape[0] <= MAX_WIDTH


@in_c("op_conv1d", VALUES, VALUES, VALUES, *(ARRAY,) * 4, *(INT,) * 4, ARRAY, takes=is_filled)
def _conv1d_c(
    native: Function, x: mx.array, convolution: Convolution, state: mx.array, runs: Runs
) -> tuple[mx.array, mx.array]:
    weight, channels = convolution.weight, x.shape[1]
    mx.eval(state)
    assert state.shape[1:] == (weight.shape[0] - 1, channels)
    out, sizes = output(*x.shape), (channels, weight.shape[0], convolution.silu)
    native(x, weight, convolution.bias, state, *runs.arrays, len(runs.state_slots), *sizes, out)
    return array(out), state


def conv1d_metal(
    x: mx.array, convolution: Convolution, state: mx.array, runs: Runs
) -> tuple[mx.array, mx.array]:
    """Run `conv1d` by our kernel, a long run in stretches that do not wait for each other."""
    weight, bias, channels = convolution.weight, convolution.bias, x.shape[1]
    assert state.shape[1:] == (weight.shape[0] - 1, channels)
    parts = (weight, weight if bias is None else bias, state)
    out, new = kernel("conv1d")(
        [
            padded(x),
            *(padded(part.astype(mx.float32)) for part in parts),
            runs.table(),
            scalar(channels, mx.int32),
        ],
        [(x.shape, x.dtype), ((len(runs.state_slots), *state.shape[1:]), mx.float32)],
        (-(-channels // 4), len(runs.state_slots), max(1, -(-runs.longest // STRETCH))),
        (THREADS, 1, 1),
        T=x.dtype,
        WIDTH=weight.shape[0],
        BIAS=bias is not None,
        SILU=convolution.silu,
    )
    return out, runs.updated(state, new)


def conv1d_reference(
    x: mx.array, convolution: Convolution, state: mx.array, runs: Runs
) -> tuple[mx.array, mx.array]:
    """Compute the definition: inputs follow the state, and a window slides over both."""
    weight, bias, width = convolution.weight, convolution.bias, convolution.weight.shape[0]
    outputs = [mx.zeros((0, x.shape[1]), x.dtype)]
    states = []
    for before, rows in runs.each(state):
        inputs, length = mx.concatenate([before, x[rows]], axis=0), rows.stop - rows.start
        windows = [inputs[j : j + length] * weight[j] for j in range(width)]
        y = sum(windows[1:], windows[0])
        y = y if bias is None else y + bias
        outputs.append((y * mx.sigmoid(y) if convolution.silu else y).astype(x.dtype))
        states.append(inputs[length:])
    return mx.concatenate(outputs, axis=0), runs.updated(state, states)


def _key(x: mx.array, convolution: Convolution, state: mx.array, runs: Runs) -> Key:
    steps = (bucket(len(runs.state_slots)), bucket(runs.longest))
    return (*steps, *convolution.weight.shape, x.dtype, convolution.bias is not None)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, Convolution, mx.array, Runs]]:
    """Cases are one token each, and a run longer than a thread's stretch; channels are odd."""
    for lengths, channels in (([1, 1], 7), ([STRETCH + 1, 2], 9)):
        x = mx.random.normal((sum(lengths), channels)).astype(dtype)
        convolution = Convolution(mx.random.normal((4, channels)))
        runs = Runs.of(lengths, [2, 0], [True, False])
        yield x, convolution, mx.random.normal((3, 3, channels)), runs


# (rows, channels) alike, and the next state: drop the old one, it may be written in place. state:
# (state_slots, width - 1, channels) float32, oldest first.
conv1d = Operation(
    "conv1d",
    conv1d_reference,
    conv1d_reference,
    _conv1d_c,
    InMetal(("conv1d.metal",), conv1d_metal, _key, _edges, takes=is_filled),
)
