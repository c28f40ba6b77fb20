"""The gated delta rule (Qwen3-Next, Qwen3.5): a state per sequence that each token corrects."""

from functools import cache

import mlx.core as mx
import numpy as np

from .cpu.library import FLOAT, INT, POINTER, Function, address, empty, library, ready
from .runs import Runs

NORM_EPS = 1e-6  # as in flash-linear-attention and gated_delta.c


def gated_delta(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    g: mx.array,
    beta: mx.array,
    state: mx.array,
    runs: Runs,
    scale: float,
    normalise: bool = True,
) -> tuple[mx.array, mx.array]:
    """(rows, heads, value_dim) as v, and the next state: drop the old one, which may be written.

    q, k: (rows, key_heads, key_dim), each of them serving heads / key_heads consecutive heads; g
    (the logarithm of the decay), beta: (rows, heads); state: (slots, heads, key_dim, value_dim)
    float32. q is scaled, after q and k are brought to length 1 if so wanted.
    """
    native = _native()
    if native is None or not v.size:
        return gated_delta_reference(q, k, v, g, beta, state, runs, scale, normalise)
    q, k, v, g, beta = (ready(x) for x in (q, k, v, g, beta))
    mx.eval(state)
    assert state.shape[1:] == (v.shape[1], q.shape[2], v.shape[2]) and v.shape[1] % q.shape[1] == 0
    out = empty(*v.shape)
    native(
        *(address(x) for x in (q, k, v, g, beta, state)),
        *(address(part) for part in (runs.starts, runs.slots, runs.fresh)),
        len(runs.slots),
        q.shape[1],
        v.shape[1],
        q.shape[2],
        v.shape[2],
        normalise,
        scale,
        address(out),
    )
    return mx.array(out), state


def gated_delta_reference(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    g: mx.array,
    beta: mx.array,
    state: mx.array,
    runs: Runs,
    scale: float,
    normalise: bool = True,
) -> tuple[mx.array, mx.array]:
    """The definition, token by token in float32."""
    dtype = v.dtype
    q, k, v, g, beta = (x.astype(mx.float32) for x in (q, k, v, g, beta))
    if normalise:
        q, k = (x * mx.rsqrt(mx.sum(x * x, axis=-1, keepdims=True) + NORM_EPS) for x in (q, k))
    shared = v.shape[1] // q.shape[1]
    q, k = mx.repeat(q * scale, shared, axis=1), mx.repeat(k, shared, axis=1)
    outputs, kept = [], []
    for i, fresh in enumerate(runs.fresh.tolist()):
        s = state[int(runs.slots[i])]
        s = mx.zeros_like(s) if fresh else s
        for row in range(int(runs.starts[i]), int(runs.starts[i + 1])):
            s = s * mx.exp(g[row])[:, None, None]
            known = mx.sum(s * k[row][:, :, None], axis=1)
            change = (v[row] - known) * beta[row][:, None]
            s = s + k[row][:, :, None] * change[:, None, :]
            outputs.append(mx.sum(s * q[row][:, :, None], axis=1))
        kept.append(s)
    state = mx.array(state)
    if kept:
        state[mx.array(runs.slots.astype(np.int32))] = mx.stack(kept)
    return mx.stack(outputs).astype(dtype) if outputs else v.astype(dtype), state


@cache
def _native() -> Function | None:
    found = library()
    types = (*(POINTER,) * 9, *(INT,) * 6, FLOAT, POINTER)
    return None if found is None else found.function("op_gated_delta", *types)
