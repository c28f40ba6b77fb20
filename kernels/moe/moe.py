"""A mixture of experts: each token goes through its chosen few, whose results are added up."""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..cpu.library import ARRAY, INT, POINTER, VALUES, Function, array, optional, output
from ..linear.activation import (
    ACTIVATIONS,
    Activation,
    activate,
    activate_plain,
    activate_plain_reference,
    activate_reference,
)
from ..linear.linear import gated_linear, linear, linear_reference
from ..linear.linear_metal import is_restored
from ..linear.linear_mlx import Epilogue, Residual, linear_mlx
from ..linear.rows import gated_add
from ..linear.weight import (
    Dense,
    Matrix,
    Packed,
    Quantized,
    Weight,
    arrays_of,
    in_mlx,
    inputs_of,
    is_whole_panels,
    matrix,
    pack,
    storage,
    widen,
    with_arrays,
)
from ..norm.rms_norm import Norm, rms_norm_reference
from ..registry import InMetal, Key, Operation, bucket, in_c, in_float32, on_cpu
from .moe_metal import Way, is_alike, moe_gathered, moe_tiled, way
from .route import Picks


class NativeExperts(ctypes.Structure):
    """The experts as the C kernel sees them (kernels/moe/moe.c)."""

    _fields_ = (
        *((name, ctypes.POINTER(Matrix)) for name in ("gate", "up", "down")),
        *((name, POINTER) for name in ("gate_bias", "up_bias", "down_bias")),
        *((name, ctypes.c_int32) for name in ("experts", "hidden", "width", "activation")),
        ("limit", ctypes.c_float),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Experts that every token goes through, side by side as one feed-forward layer.

    gate_up: (2 * width, hidden), the gate first, or (width, hidden), up alone where there is no
    gate; down: (hidden, width). With `gate` (1, hidden), a token gets sigmoid(gate . x) of it
    (Qwen2-MoE's shared_expert_gate).
    """

    gate_up: Weight
    down: Weight
    gate: mx.array | None = None

    @property
    def width(self) -> int:
        return inputs_of(self.down)

    @property
    def is_gated(self) -> bool:
        return self.gate_up.outputs != self.width


@dataclass(frozen=True, slots=True, eq=False)
class Experts:
    """Weights of all experts, one below the other: (experts * width, hidden) for gate and up,
    (experts * hidden, width) for down; biases are (experts, rows), float32 and evaluated. Without a
    gate an expert is down(activation(up(x))), as Nemotron-H's are.

    Without `in_order` the pairs of token and expert are not sorted by expert first, which reads an
    expert's weights anew for every token: for comparison only.
    """

    count: int
    gate: Weight | None
    up: Weight
    down: Weight
    gate_bias: mx.array | None = None
    up_bias: mx.array | None = None
    down_bias: mx.array | None = None
    activation: Activation = "silu"
    limit: float = 7.0
    in_order: bool = True
    shared: Shared | None = None

    @property
    def width(self) -> int:
        return self.up.outputs // self.count

    @property
    def weights(self) -> tuple[Weight, ...]:
        return (self.up, self.down) if self.gate is None else (self.gate, self.up, self.down)

    @property
    def hidden(self) -> int:
        return self.down.outputs // self.count

    @property
    def epilogue(self) -> Epilogue:
        """The epilogue of the shared experts' gate and up, which joins them."""
        return Epilogue(activation=self.activation, limit=self.limit)


def pack_experts(weight: Weight, count: int) -> Weight:
    """Run `pack`, unless an expert would begin in the middle of a panel."""
    return pack(weight) if is_whole_panels(weight.outputs // count) else weight


@in_c("op_moe", ctypes.POINTER(NativeExperts), VALUES, INT, ARRAY, VALUES, INT, VALUES, INT, ARRAY)
def _moe_c(
    native: Function,
    x: mx.array,
    experts: Experts,
    picks: Picks,
    residual: Residual = None,
    norm: Norm | None = None,
) -> mx.array:
    x = x if norm is None else norm(x)
    residual = _add_shared(x, experts, residual, linear)
    out, (rows, k) = output(*x.shape), picks[0].shape
    native(_native_experts(experts), x, rows, *picks, k, residual, experts.in_order, out)
    return array(out)


def moe_metal(
    x: mx.array, experts: Experts, picks: Picks, residual: Residual = None, norm: Norm | None = None
) -> mx.array:
    """Run `moe` by our kernels, in the `way` for so many pairs."""
    gathered = way(x, experts, picks[0]) == Way.GATHERED
    if gathered and is_alike(experts):
        return moe_gathered(x, experts, experts.shared, picks, residual, norm)
    x = x if norm is None else norm(x)
    residual = _add_shared(x, experts, residual)
    if gathered:
        return moe_gathered(x, experts, None, picks, residual)
    return moe_tiled(x, experts, picks, residual)


def moe_reference(
    x: mx.array, experts: Experts, picks: Picks, residual: Residual = None, norm: Norm | None = None
) -> mx.array:
    """Compute the definition, token by token, in float32."""
    x = x if norm is None else rms_norm_reference(x, norm.weight, norm.eps)
    matrices = [
        widen(weight).reshape(experts.count, -1, inputs_of(weight)) for weight in experts.weights
    ]
    rows, (chosen, weights) = [], picks
    for token, experts_of in enumerate(np.array(chosen).tolist()):
        total = mx.zeros(x.shape[-1])
        for place, pick in enumerate(experts_of):
            *before, down = (each[pick] for each in matrices)
            inner = _inner_reference(x[token].astype(mx.float32), experts, before, pick)
            part = _plus(down @ inner, experts.down_bias, pick)
            total = total + weights[token, place] * part
        rows.append(total)
    y = mx.stack(rows)
    if experts.shared is not None:
        y = y + _shared_reference(x.astype(mx.float32), experts, experts.shared)
    return (y if residual is None else y + residual).astype(x.dtype)


def _inner_reference(
    x: mx.array, experts: Experts, matrices: list[mx.array], expert: int
) -> mx.array:
    """Take one token through one expert's matrices before `down`."""
    up = _plus(matrices[-1] @ x, experts.up_bias, expert)
    if len(matrices) == 1:
        return activate_plain_reference(up, experts.activation)
    gate = _plus(matrices[0] @ x, experts.gate_bias, expert)
    both = mx.concatenate([gate, up])[None]
    return activate_reference(both, experts.activation, experts.limit)[0]


def _plus(y: mx.array, bias: mx.array | None, expert: int) -> mx.array:
    return y if bias is None else y + bias[expert]


def _shared_reference(x: mx.array, experts: Experts, shared: Shared) -> mx.array:
    if shared.is_gated:
        inner = linear_reference(x, shared.gate_up, experts.epilogue)
    else:
        inner = activate_plain_reference(linear_reference(x, shared.gate_up), experts.activation)
    y = linear_reference(inner, shared.down)
    return y if shared.gate is None else y * mx.sigmoid(x @ shared.gate.astype(x.dtype).T)


def _add_shared(
    x: mx.array,
    experts: Experts,
    residual: Residual,
    gate_product: Callable[[mx.array, Weight], mx.array] = linear_mlx,
) -> mx.array | None:
    """Return what is added to the chosen experts' sum: the shared experts' part and the residual.

    `gate_product` multiplies x by the gate of the shared experts.
    """
    shared = experts.shared
    if shared is None:
        return residual
    if shared.is_gated:
        inner = gated_linear(x, shared.gate_up, experts.epilogue)
    else:
        inner = activate_plain(linear(x, shared.gate_up), experts.activation)
    if shared.gate is None:
        return linear(inner, shared.down, Epilogue(residual=residual))
    gates = gate_product(x, Dense(shared.gate.astype(x.dtype)))
    return gated_add(linear(inner, shared.down), gates, residual)


def moe_mlx(
    x: mx.array, experts: Experts, picks: Picks, residual: Residual = None, norm: Norm | None = None
) -> mx.array:
    """Run `moe` by MLX's gathered products over pairs of token and expert."""
    x = x if norm is None else norm(x)
    residual = _add_shared(x, experts, residual)
    chosen, weights = picks
    k, flat = chosen.shape[1], chosen.flatten().astype(mx.uint32)
    order = mx.argsort(flat) if experts.in_order else mx.arange(flat.size)
    flat, pairs = flat[order], x[order // k][:, None, :]
    up = _gathered(pairs, experts.up, experts, flat, experts.up_bias)
    if experts.gate is None:
        inner = activate_plain(up[:, 0], experts.activation)
    else:
        gate = _gathered(pairs, experts.gate, experts, flat, experts.gate_bias)
        both = mx.concatenate([gate, up], axis=-1)[:, 0]
        inner = activate(both, experts.activation, experts.limit)
    outer = _gathered(inner[:, None, :], experts.down, experts, flat, experts.down_bias)
    places = mx.argsort(order)
    parts = outer[:, 0][places].reshape(x.shape[0], k, -1)
    y = mx.sum(parts * weights[:, :, None].astype(parts.dtype), axis=1).astype(x.dtype)
    return y if residual is None else y + residual


def _gathered(
    x: mx.array, weight: Weight, experts: Experts, picks: mx.array, bias: mx.array | None
) -> mx.array:
    """Multiply (pairs, 1, inputs) to (pairs, 1, outputs), each by its expert's matrix."""
    assert not isinstance(weight, Packed)
    matrices = [part.reshape(experts.count, -1, part.shape[-1]) for part in arrays_of(weight)]
    places = picks
    if picks.size < experts.count and is_restored(weight):  # the chosen ones alone
        matrices, places = [part[picks] for part in matrices], mx.arange(picks.size)
    weight = in_mlx(with_arrays(weight, matrices))
    stacked = arrays_of(weight)
    if isinstance(weight, Dense):
        dtype = mx.float32 if on_cpu() else x.dtype  # MLX 0.32 multiplies no others so on a CPU
        y = mx.gather_mm(
            x.astype(dtype),
            stacked[0].swapaxes(-1, -2).astype(dtype),
            rhs_indices=places,
            sorted_indices=experts.in_order,
        ).astype(x.dtype)
    else:
        y = mx.gather_qmm(
            x,
            stacked[0],
            stacked[1],
            stacked[2] if weight.biases is not None else None,
            rhs_indices=places,
            transpose=True,
            group_size=weight.group,
            bits=weight.bits,
            mode=weight.mode,
            sorted_indices=experts.in_order,
        ).astype(x.dtype)
    return y if bias is None else y + bias[picks][:, None, :].astype(y.dtype)


def _native_experts(experts: Experts) -> NativeExperts:
    biases = (experts.gate_bias, experts.up_bias, experts.down_bias)
    gate = None if experts.gate is None else matrix(experts.gate)
    up = matrix(experts.up)
    return NativeExperts(
        None if gate is None else ctypes.pointer(gate),
        *(ctypes.pointer(each) for each in (up, matrix(experts.down))),
        *(optional(bias) for bias in biases),
        experts.count,
        experts.hidden,
        experts.width,
        ACTIVATIONS[experts.activation],
        experts.limit,
    )


def _key(x: mx.array, experts: Experts, picks: Picks, *_: object, **__: object) -> Key:
    shape = (bucket(x.shape[0]), picks[0].shape[1], experts.count, experts.width, experts.hidden)
    stored = (*storage(experts.up), *storage(experts.down))
    kind = (*stored, x.dtype, experts.activation)
    return (*shape, *kind, experts.shared is not None)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, Experts, Picks]]:
    """Cases are one token, two of the same expert, and enough for tiles of each height."""
    gate, up, down = (
        Quantized(*mx.quantize(mx.random.normal((4 * 64, 64)).astype(dtype), 64, 4), 64, 4)
        for _ in range(3)
    )
    experts = Experts(4, gate, up, down)
    for rows in (1, 2, 5, 19, 97):
        chosen = mx.array([[(row // 2) % 4, 3 - row // 2 % 2] for row in range(rows)], mx.int32)
        yield mx.random.normal((rows, 64)).astype(dtype), experts, (chosen, mx.ones((rows, 2)) / 2)


# (rows, hidden) alike. For picks (chosen, weights) it is the sum over j of weights[:, j] times what
# expert chosen[:, j] makes of x. With a norm, the experts get norm(x).
moe = Operation(
    "moe",
    moe_mlx,
    moe_reference,
    _moe_c,
    InMetal(
        ("moe_decode.metal", "moe_sort.metal", "moe_prefill.metal"),
        moe_metal,
        _key,
        _edges,
        takes=lambda x, experts, picks, *_, **__: way(x, experts, picks[0]) != Way.MLX,
        oracle=in_float32(moe_mlx),  # the definition restores every expert, which no memory holds
    ),
)
