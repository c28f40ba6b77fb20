"""Bodies of Metal kernels run by the simulator, with numpy on both sides."""

from collections.abc import Mapping, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from bessemer.kernels.simulator.kernel import SimulatorOptions, metal_kernel
from bessemer.kernels.simulator.report import Mode

Array = NDArray[np.generic]
INTEGERS = (mx.int8, mx.uint8, mx.int16, mx.uint16, mx.int32, mx.uint32, mx.int64, mx.uint64)
FLOATS = (mx.float32, mx.float16, mx.bfloat16)
KINDS = (*INTEGERS, *FLOATS)
SPELT = [
    "char",
    "uchar",
    "short",
    "ushort",
    "int",
    "uint",
    "long",
    "ulong",
    "float",
    "half",
    "bfloat",
]
NAMES = dict(zip(KINDS, SPELT, strict=True))
DIGITS = {mx.float32: 24, mx.float16: 11, mx.bfloat16: 8}
LEAST = {mx.float32: -149, mx.float16: -24, mx.bfloat16: -133}  # exponents of the subnormals


def body(
    source: str,
    inputs: Mapping[str, mx.array],
    outputs: Mapping[str, tuple[tuple[int, ...], mx.Dtype]],
    threads: int,
    group: int = 256,
    template: Sequence[tuple[str, mx.Dtype | int | bool]] = (),
    header: str = "",
    mode: Mode = "fast",
    atomic: bool = False,
    init: float | None = None,
) -> list[mx.array]:
    kernel = metal_kernel(
        name="body",
        input_names=list(inputs),
        output_names=list(outputs),
        source=source,
        header=header,
        atomic_outputs=atomic,
        options=SimulatorOptions(mode=mode),
    )
    return kernel(
        inputs=list(inputs.values()),
        output_shapes=[shape for shape, _ in outputs.values()],
        output_dtypes=[dtype for _, dtype in outputs.values()],
        grid=(threads, 1, 1),
        threadgroup=(group, 1, 1),
        template=list(template),
        init_value=init,
    )


def columns(
    expressions: Sequence[str],
    inputs: Mapping[str, mx.array],
    dtype: mx.Dtype,
    prelude: str = "",
    group: int = 256,
    template: Sequence[tuple[str, mx.Dtype | int | bool]] = (),
    mode: Mode = "fast",
) -> list[mx.array]:
    """One thread an element of the first input, at `i`: each expression's values."""
    count = next(iter(inputs.values())).size
    writes = "".join(
        f"out[{number} * {count} + i] = O({each});\n" for number, each in enumerate(expressions)
    )
    (out,) = body(
        f"uint i = thread_position_in_grid.x;\n{prelude}\n{writes}",
        inputs,
        {"out": ((len(expressions), count), dtype)},
        count,
        group,
        (("O", dtype), *template),
        mode=mode,
    )
    return list(out)


def exact(x: mx.array) -> NDArray[np.float64]:
    """Return x as numpy's widest numbers, which hold what is in it."""
    with np.errstate(invalid="ignore"):  # of signalling NaN
        return np.array(x.astype(mx.float32)).astype(np.float64)


def integers(x: mx.array) -> list[int]:
    return [int(each) for each in np.array(x).ravel()]


def bits(x: mx.array) -> NDArray[np.generic]:
    return np.array(x.view({1: mx.uint8, 2: mx.uint16, 4: mx.uint32}[x.dtype.size]))


def rounded(values: NDArray[np.float64], dtype: mx.Dtype) -> NDArray[np.float64]:
    """Round to the nearest number of the type, ties to even: the definition, on powers of two."""
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(values)
        step = np.maximum(exponent - DIGITS[dtype], LEAST[dtype])
        near = np.ldexp(np.rint(np.ldexp(values, -step)), step)
        largest = (2 - 2.0 ** (1 - DIGITS[dtype])) * 2.0 ** {mx.float16: 15}.get(dtype, 127)
        near = np.where(np.abs(near) > largest, np.copysign(np.inf, values), near)
        return np.where(np.isfinite(values), near, values)


def same(got: NDArray[np.float64], oracle: NDArray[np.float64]) -> bool:
    """Compare number by number, NaN with NaN."""
    return bool(((got == oracle) | (np.isnan(got) & np.isnan(oracle))).all())
