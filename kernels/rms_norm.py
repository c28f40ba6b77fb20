"""Root mean square normalisation over the last axis, with the residual sum before it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast, overload

import mlx.core as mx

from .cpu.library import ARRAY, FLOAT, INT, NUMBERS, VALUES, Function, array, output
from .metal.device import device
from .metal.library import Value, kernel, padded, scalar
from .registry import InMetal, Key, Operation, bucket, in_c, in_float32

Normed = mx.array | tuple[mx.array, mx.array]  # with a residual, the sum and its norm
SIMD, THREADS = 32, 1024  # lanes of a simdgroup; threads of a threadgroup, at most


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A norm that the operation after it may take into its own work. weight: (width,)."""

    weight: mx.array
    eps: float

    def __call__(self, x: mx.array) -> mx.array:
        """(..., width) alike."""
        return rms_norm(x, self.weight, self.eps)


def once(x: mx.array, norm: Norm | None) -> tuple[mx.array, Norm | None]:
    """x and its norm, for several operations: on a CPU, where none takes it in, the norm of x."""
    if norm is None or device() is not None:
        return x, norm
    return norm(x), None


def rms_norm_mlx(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """By MLX's own operation, which gives float32 where either of the two is."""
    return mx.fast.rms_norm(x, weight, eps).astype(x.dtype)


def rms_norm_reference(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """The definition, in float32."""
    wide = x.astype(mx.float32)
    scale = mx.rsqrt(mx.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return ((wide * scale) * weight.astype(mx.float32)).astype(x.dtype)


def _summed(
    normed: Callable[[mx.array, mx.array, float], mx.array],
) -> Callable[..., Normed]:
    """The same norm of x, or of x + residual, beside that sum."""

    def form(x: mx.array, weight: mx.array, eps: float, residual: mx.array | None = None) -> Normed:
        if residual is None:
            return normed(x, weight, eps)
        total = x + residual
        return total, normed(total, weight, eps)

    return form


@in_c("op_norm", VALUES, VALUES, ARRAY, INT, ARRAY, *(INT,) * 4, FLOAT, ARRAY, ARRAY)
def norm_c(
    native: Function,
    x: mx.array,
    weight: mx.array,
    eps: float,
    residual: mx.array | None = None,
    bias: mx.array | None = None,
    is_centred: bool = False,
) -> Normed:
    """Either norm in C; float32 but for weight and bias, which may have 16 bits."""
    mx.eval(weight, bias)
    kinds = (NUMBERS[weight.dtype], 0 if bias is None else NUMBERS[bias.dtype])
    sizes = (x.size // x.shape[-1], x.shape[-1], is_centred, eps)
    out, total = output(*x.shape), None if residual is None else output(*x.shape)
    native(x, residual, weight, kinds[0], bias, kinds[1], *sizes, total, out)
    return array(out) if total is None else (array(total), array(out))


def _key(x: mx.array, weight: mx.array, eps: float, residual: mx.array | None = None) -> Key:
    rows = bucket(x.size // max(1, x.shape[-1]))
    return rows, x.shape[-1], x.dtype, weight.dtype, residual is not None


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, mx.array, float]]:
    for rows, width in ((1, 7), (1, 8), (2, 33)):
        yield mx.random.normal((rows, width)).astype(dtype), mx.ones((width,), dtype), 1e-5


def rms_norm_metal(
    x: mx.array, weight: mx.array, eps: float, residual: mx.array | None = None
) -> Normed:
    """As `rms_norm`, by kernels/rms_norm.metal."""
    if not x.size:
        return x if residual is None else (x, x)
    width = x.shape[-1]
    count = 4 if width % 4 == 0 else 1
    threads = min(THREADS, -(-width // (count * SIMD)) * SIMD)
    grid = (x.size // width * threads, 1, 1)
    size = (threads, 1, 1)
    template: dict[str, Value] = {"T": x.dtype, "G": weight.dtype, "COUNT": count}
    sizes = [scalar(eps), scalar(width, mx.int32)]
    like = (x.shape, x.dtype)
    if residual is None:
        launch = kernel("rms_norm")
        return launch([padded(x), padded(weight), *sizes], [like], grid, size, **template)[0]
    launch = kernel("rms_norm", "add_rms_norm")
    arrays = [padded(x), padded(residual.astype(x.dtype)), padded(weight)]
    total, normed = launch([*arrays, *sizes], [like, like], grid, size, **template)
    return total, normed


class RmsNorm(Protocol):
    """How the norm is called: with a residual, x + residual comes before the norm of that."""

    @overload
    def __call__(self, x: mx.array, weight: mx.array, eps: float) -> mx.array: ...
    @overload
    def __call__(
        self, x: mx.array, weight: mx.array, eps: float, residual: mx.array
    ) -> tuple[mx.array, mx.array]: ...


REFERENCE = _summed(rms_norm_reference)
OPERATION = Operation(
    "rms_norm",
    _summed(rms_norm_mlx),
    REFERENCE,
    norm_c,
    InMetal(("rms_norm.metal",), rms_norm_metal, _key, _edges, oracle=in_float32(REFERENCE)),
)
rms_norm = cast(RmsNorm, OPERATION)  # (..., width) alike
