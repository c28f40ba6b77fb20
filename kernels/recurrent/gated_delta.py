"""The gated delta rule (Qwen3-Next, Qwen3.5) keeps a state a sequence, which tokens correct."""

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx

from ..cpu.library import ARRAY, FLOAT, INT, VALUES, Function, array, output
from ..metal.library import kernel, padded, scalar
from ..registry import InMetal, Key, Operation, bucket, in_c, is_filled
from .runs import Runs

NORM_EPS = 1e-6  # as in flash-linear-attention and gated_delta.c

COLUMNS = 16  # columns of a state to a simdgroup, as in gated_delta.metal
SIMDGROUPS = 4  # a threadgroup has few, for one head's must spread over cores


Gates = tuple[mx.array, mx.array]  # g, the logarithm of the decay, and beta: (rows, heads)


@dataclass(frozen=True, slots=True)
class Rule:
    """The preparation of q and k: both get length 1 if `normalise`, then q is scaled."""

    scale: float
    normalise: bool = True


@in_c(
    "op_gated_delta", *(*(VALUES,) * 5, *(ARRAY,) * 4, *(INT,) * 6, FLOAT, ARRAY), takes=is_filled
)
def _gated_delta_c(
    native: Function,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    gates: Gates,
    state: mx.array,
    runs: Runs,
    rule: Rule,
) -> tuple[mx.array, mx.array]:
    mx.eval(state)
    assert state.shape[1:] == (v.shape[1], q.shape[2], v.shape[2]) and v.shape[1] % q.shape[1] == 0
    sizes = (len(runs.state_slots), q.shape[1], v.shape[1], q.shape[2], v.shape[2])
    out = output(*v.shape)
    native(q, k, v, *gates, state, *runs.arrays, *sizes, rule.normalise, rule.scale, out)
    return array(out), state


def gated_delta_metal(
    q: mx.array, k: mx.array, v: mx.array, gates: Gates, state: mx.array, runs: Runs, rule: Rule
) -> tuple[mx.array, mx.array]:
    """Run `gated_delta` by our kernel, each run in one go; q and k are cast to v's dtype."""
    heads, values = v.shape[1:]
    keys, shared = q.shape[2], heads // q.shape[1]
    slices = -(-values // COLUMNS)
    out, new = kernel("gated_delta")(
        [
            *(padded(x.astype(v.dtype)) for x in (q, k, v)),
            *(padded(x.astype(mx.float32)) for x in (*gates, state)),
            runs.table(),
            scalar(rule.scale),
        ],
        [(v.shape, v.dtype), ((len(runs.state_slots), *state.shape[1:]), mx.float32)],
        (32 * slices, heads, len(runs.state_slots)),
        (32 * min(slices, SIMDGROUPS), 1, 1),
        T=v.dtype,
        KEYS=keys,
        VALUES=values,
        SHARED=shared,
        NORMALISE=rule.normalise,
    )
    return out, runs.updated(state, new)


def gated_delta_reference(
    q: mx.array, k: mx.array, v: mx.array, gates: Gates, state: mx.array, runs: Runs, rule: Rule
) -> tuple[mx.array, mx.array]:
    """Compute the definition, token by token in float32."""
    dtype = v.dtype
    q, k, v, g, beta = (x.astype(mx.float32) for x in (q, k, v, *gates))
    if rule.normalise:
        q, k = (x * mx.rsqrt(mx.sum(x * x, axis=-1, keepdims=True) + NORM_EPS) for x in (q, k))
    shared = v.shape[1] // q.shape[1]
    q, k = mx.repeat(q * rule.scale, shared, axis=1), mx.repeat(k, shared, axis=1)
    outputs, states = [], []
    for s, rows in runs.each(state):
        for row in range(rows.start, rows.stop):
            s = s * mx.exp(g[row])[:, None, None]
            known = mx.sum(s * k[row][:, :, None], axis=1)
            change = (v[row] - known) * beta[row][:, None]
            s = s + k[row][:, :, None] * change[:, None, :]
            outputs.append(mx.sum(s * q[row][:, :, None], axis=1))
        states.append(s)
    out = mx.stack(outputs).astype(dtype) if outputs else v.astype(dtype)
    return out, runs.updated(state, states)


def _key(
    q: mx.array, k: mx.array, v: mx.array, gates: Gates, state: mx.array, runs: Runs, rule: Rule
) -> Key:
    steps = (bucket(len(runs.state_slots)), bucket(runs.longest))
    return (*steps, *q.shape[1:], *v.shape[1:], v.dtype, rule.normalise)


def _edges(
    dtype: mx.Dtype,
) -> Iterator[tuple[mx.array, mx.array, mx.array, Gates, mx.array, Runs, Rule]]:
    """Cases have two heads of values to one of keys; one token each, and a run beside one."""
    for lengths in ([1, 1], [5, 1]):
        rows = sum(lengths)
        q, k = (mx.random.normal((rows, 1, 32)).astype(dtype) for _ in "qk")
        v = mx.random.normal((rows, 2, 32)).astype(dtype)
        g, beta = -mx.random.uniform(shape=(rows, 2)), mx.random.uniform(shape=(rows, 2))
        state, runs = mx.random.normal((3, 2, 32, 32)), Runs.of(lengths, [2, 0], [True, False])
        yield q, k, v, (g.astype(dtype), beta.astype(dtype)), state, runs, Rule(32**-0.5)


# (rows, heads, value_dim) as v, and the next state: drop the old one, which may be written. q, k:
# (rows, key_heads, key_dim), each of them serving heads / key_heads consecutive heads; state:
# (state_slots, heads, key_dim, value_dim) float32.
gated_delta = Operation(
    "gated_delta",
    gated_delta_reference,
    gated_delta_reference,
    _gated_delta_c,
    InMetal(("gated_delta.metal",), gated_delta_metal, _key, _edges, takes=is_filled),
)
