"""The selective scan of Mamba 2 keeps a state a sequence; each token says how fast it decays."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx

from ..cpu.library import ARRAY, FLOAT, INT, VALUES, Function, array, output
from ..metal.library import kernel, padded, scalar
from ..registry import InMetal, Key, Operation, bucket, in_c, is_filled
from .runs import Runs

LANES = 8  # lanes of a simdgroup that share a row of a state, as in ssm_scan.metal
MAX_ROWS, MAX_FOURS = 4, 16  # a lane keeps them in registers
SIMDGROUPS = 4  # a threadgroup has few, for one head's must spread over cores


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """The parameters of a layer, (heads,) float32 each.

    A step is softplus(dt + dt_bias), cut to min_step and max_step; `a` is negative, -exp(A_log);
    `d` is how much of a value passes by the state.
    """

    dt_bias: mx.array
    a: mx.array
    d: mx.array
    min_step: float = 0.0
    max_step: float = math.inf

    @property
    def arrays(self) -> tuple[mx.array, mx.array, mx.array]:
        """The arrays in the order of the kernels."""
        return self.dt_bias, self.a, self.d


@in_c(
    "op_ssm_scan",
    *(*(VALUES,) * 7, *(ARRAY,) * 4, *(INT,) * 5, FLOAT, FLOAT, ARRAY),
    takes=is_filled,
)
def _ssm_scan_c(
    native: Function,
    x: mx.array,
    b: mx.array,
    c: mx.array,
    dt: mx.array,
    scan: Scan,
    state: mx.array,
    runs: Runs,
) -> tuple[mx.array, mx.array]:
    mx.eval(state)
    assert state.shape[1:] == (*x.shape[1:], b.shape[2]) and x.shape[1] % b.shape[1] == 0
    arrays, sizes = (*scan.arrays, state, *runs.arrays), (len(runs.state_slots), b.shape[1])
    out = output(*x.shape)
    native(x, b, c, dt, *arrays, *sizes, *state.shape[1:], scan.min_step, scan.max_step, out)
    return array(out), state


def ssm_scan_metal(
    x: mx.array, b: mx.array, c: mx.array, dt: mx.array, scan: Scan, state: mx.array, runs: Runs
) -> tuple[mx.array, mx.array]:
    """Run `ssm_scan` by our kernel, each run in one go; b, c and dt are cast to x's dtype."""
    count, dim, width = state.shape[1:]
    rows = _rows(width)
    slices = -(-dim // (32 // LANES * rows))
    out, new = kernel("ssm_scan")(
        [
            *(padded(each.astype(x.dtype)) for each in (x, b, c, dt)),
            *(padded(each.astype(mx.float32)) for each in (*scan.arrays, state)),
            runs.table(),
            scalar(scan.min_step),
            scalar(scan.max_step),
        ],
        [(x.shape, x.dtype), ((len(runs.state_slots), count, dim, width), mx.float32)],
        (32 * slices, count, len(runs.state_slots)),
        (32 * min(slices, SIMDGROUPS), 1, 1),
        T=x.dtype,
        DIM=dim,
        WIDTH=width,
        SHARED=count // b.shape[1],
        ROWS=rows,
    )
    return out, runs.updated(state, new)


def _rows(width: int) -> int:
    """Return how many rows of a head's state a lane takes."""
    fours = -(-width // (4 * LANES))
    return max(1, min(MAX_ROWS, MAX_FOURS // fours))


def ssm_scan_reference(
    x: mx.array, b: mx.array, c: mx.array, dt: mx.array, scan: Scan, state: mx.array, runs: Runs
) -> tuple[mx.array, mx.array]:
    """Compute the definition, token by token in float32."""
    dtype, shared = x.dtype, x.shape[1] // b.shape[1]
    x, b, c, dt = (each.astype(mx.float32) for each in (x, b, c, dt))
    b, c = mx.repeat(b, shared, axis=1), mx.repeat(c, shared, axis=1)
    steps = mx.clip(mx.logaddexp(dt + scan.dt_bias, 0.0), scan.min_step, scan.max_step)
    outputs, states = [], []
    for s, rows in runs.each(state):
        for row in range(rows.start, rows.stop):
            s = s * mx.exp(steps[row] * scan.a)[:, None, None]
            s = s + (steps[row][:, None] * x[row])[:, :, None] * b[row][:, None, :]
            outputs.append(mx.sum(s * c[row][:, None, :], axis=2) + scan.d[:, None] * x[row])
        states.append(s)
    out = mx.stack(outputs).astype(dtype) if outputs else x.astype(dtype)
    return out, runs.updated(state, states)


def _key(
    x: mx.array, b: mx.array, c: mx.array, dt: mx.array, scan: Scan, state: mx.array, runs: Runs
) -> Key:
    return bucket(len(runs.state_slots)), bucket(runs.longest), *x.shape[1:], *b.shape[1:], x.dtype


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array | Scan | Runs, ...]]:
    """Cases have two heads to a group, one token each or a run beside one, steps at both limits."""
    for lengths, dim, width in (([1, 1], 5, 33), ([5, 1], 20, 32)):
        rows = sum(lengths)
        x = mx.random.normal((rows, 2, dim)).astype(dtype)
        b, c = (mx.random.normal((rows, 1, width)).astype(dtype) for _ in "bc")
        dt, (dt_bias, d) = 2 * mx.random.normal((rows, 2)).astype(dtype), mx.random.normal((2, 2))
        scan = Scan(dt_bias, -mx.random.uniform(shape=(2,)), d, 0.1, 2.0)
        state, runs = mx.random.normal((3, 2, dim, width)), Runs.of(lengths, [2, 0], [True, False])
        yield x, b, c, dt, scan, state, runs


# (rows, heads, head_dim) as x, and the next state: drop the old one, which may be written. b, c:
# (rows, groups, state_dim), each of them serving heads / groups consecutive heads; dt: (rows,
# heads); state: (slots, heads, head_dim, state_dim) float32.
ssm_scan = Operation(
    "ssm_scan",
    ssm_scan_reference,
    ssm_scan_reference,
    _ssm_scan_c,
    InMetal(("ssm_scan.metal",), ssm_scan_metal, _key, _edges, takes=is_filled),
)
