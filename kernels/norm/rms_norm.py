"""Root mean square normalisation over the last axis."""

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx

from ..cpu.library import ARRAY, FLOAT, INT, NUMBERS, VALUES, Function, array, output
from ..linear.rows import add
from ..metal.library import kernel, nothing, padded, scalar
from ..registry import InMetal, Key, Operation, bucket, in_c, in_float32

SIMD, THREADS = 32, 1024  # lanes of a simdgroup; threads of a threadgroup, at most


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A norm that the operation after it may take into its own work. weight: (width,)."""

    weight: mx.array
    eps: float

    def __call__(self, x: mx.array, residual: mx.array | None = None) -> mx.array:
        """Normalise (..., width), and add the residual."""
        return rms_norm(x, self.weight, self.eps, residual)


def rms_norm_mlx(
    x: mx.array, weight: mx.array, eps: float, residual: mx.array | None = None
) -> mx.array:
    """Normalise by MLX's own operation, which gives float32 where either of the two is."""
    y = mx.fast.rms_norm(x, weight, eps).astype(x.dtype)
    return y if residual is None else residual + y


def rms_norm_reference(
    x: mx.array, weight: mx.array, eps: float, residual: mx.array | None = None
) -> mx.array:
    """Compute the definition, in float32."""
    wide = x.astype(mx.float32)
    scale = mx.rsqrt(mx.mean(wide * wide, axis=-1, keepdims=True) + eps)
    y = ((wide * scale) * weight.astype(mx.float32)).astype(x.dtype)
    return y if residual is None else residual + y


@in_c("op_rms_norm", VALUES, ARRAY, *(INT,) * 3, FLOAT, ARRAY)
def _rms_norm_c(
    native: Function, x: mx.array, weight: mx.array, eps: float, residual: mx.array | None = None
) -> mx.array:
    mx.eval(weight)
    out, width = output(*x.shape), x.shape[-1]
    native(x, weight, NUMBERS[weight.dtype], x.size // width, width, eps, out)
    return array(out) if residual is None else add(residual, array(out))


def _key(x: mx.array, weight: mx.array, eps: float, residual: mx.array | None = None) -> Key:
    rows, width = x.size // max(1, x.shape[-1]), x.shape[-1]
    return bucket(rows), width, x.dtype, weight.dtype, residual is not None


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, mx.array, float, mx.array | None]]:
    for rows, width in ((1, 7), (1, 8), (2, 33)):
        x = mx.random.normal((rows, width)).astype(dtype)
        for residual in (None, x - 1):
            yield x, mx.ones((width,), dtype), 1e-5, residual


def rms_norm_metal(
    x: mx.array, weight: mx.array, eps: float, residual: mx.array | None = None
) -> mx.array:
    """Run `rms_norm` by our kernel."""
    if not x.size:
        return x
    width = x.shape[-1]
    count = 4 if width % 4 == 0 else 1
    threads = min(THREADS, -(-width // (count * SIMD)) * SIMD)
    return kernel("rms_norm")(
        [
            *(padded(x), padded(weight)),
            nothing(x.dtype) if residual is None else padded(residual),
            *(scalar(eps), scalar(width, mx.int32)),
        ],
        [(x.shape, x.dtype)],
        (x.size // width * threads, 1, 1),
        (threads, 1, 1),
        T=x.dtype,
        G=weight.dtype,
        COUNT=count,
        SUM=residual is not None,
    )[0]


# (..., width) alike, and the residual.
rms_norm = Operation(
    "rms_norm",
    rms_norm_mlx,
    rms_norm_reference,
    _rms_norm_c,
    InMetal(
        ("rms_norm.metal",), rms_norm_metal, _key, _edges, oracle=in_float32(rms_norm_reference)
    ),
)


def once(x: mx.array, norm: Norm | None) -> tuple[mx.array, Norm | None]:
    """x and its norm, for several operations: on a CPU, where none takes it in, the norm of x."""
    if norm is None or rms_norm.in_metal:
        return x, norm
    return norm(x), None
