"""MLX's own Metal kernels through the simulator: they compile, run checked, and agree with MLX."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.simulator.kernel import SimulatorError, SimulatorOptions, metal_kernel

from ..mlx_metal import header

TOLERANCE = {mx.float32: 2e-5, mx.float16: 2e-3, mx.bfloat16: 2e-2}
DTYPES = tuple(TOLERANCE)
Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Output:
    shape: tuple[int, ...]
    dtype: mx.Dtype


def run(
    call: str,
    files: Sequence[str],
    inputs: Mapping[str, mx.array | int | float],
    outputs: Mapping[str, Output],
    groups: Size,
    group: Size,
    constants: Mapping[str, int] | None = None,
    dtype: mx.Dtype = mx.float32,
) -> list[mx.array]:
    """`call` is the body: one of the files' kernels called; T is `dtype`."""
    kernel = metal_kernel(
        name="borrowed",
        input_names=list(inputs),
        output_names=list(outputs),
        source=call,
        header=header(*files, constants=constants),
        options=SimulatorOptions(mode="check"),
    )
    return kernel(
        inputs=list(inputs.values()),
        output_shapes=[each.shape for each in outputs.values()],
        output_dtypes=[each.dtype for each in outputs.values()],
        grid=(groups[0] * group[0], groups[1] * group[1], groups[2] * group[2]),
        threadgroup=group,
        template=[("T", dtype)],
    )


def normal(*shape: int, dtype: mx.Dtype = mx.float32, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape, np.float32)).astype(dtype)


def wide(value: int) -> mx.array:
    return mx.array(value, dtype=mx.uint64)


def packed(layout: str, *values: float) -> mx.array:
    """A structure of MLX's, as memory: the device's where a kernel asks for constant memory."""
    return mx.array(np.frombuffer(struct.pack(layout, *values), np.uint32))


def close(got: mx.array, oracle: mx.array, dtype: mx.Dtype) -> None:
    a, b = np.array(got.astype(mx.float32)), np.array(oracle.astype(mx.float32))
    scale = float(np.abs(b).max())
    assert float(np.abs(a - b).max()) <= TOLERANCE[dtype] * scale


ATTENTION = ("sdpa_vector.h",)
THREAD = "simdgroup_index_in_threadgroup, thread_index_in_simdgroup"


def attention(
    q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None = None
) -> mx.array:
    q, k, v = (x.astype(mx.float32) for x in (q, k, v))
    scale = 1 / math.sqrt(q.shape[-1])
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sdpa_vector(dtype: mx.Dtype) -> None:
    heads, kv_heads, length, size = 4, 2, 45, 64
    q = normal(1, heads, 1, size, dtype=dtype)
    k = normal(1, kv_heads, length, size, dtype=dtype, seed=1)
    v = normal(1, kv_heads, length, size, dtype=dtype, seed=2)
    allowed = normal(1, heads, 1, length, seed=3) < 0.5
    (out,) = run(
        "sdpa_vector<T, 64>(q, k, v, out, group, n, head, token, head, token, scale, mask, q,"
        " mask_token, mask_token, n, q, n, threadgroup_position_in_grid, threadgroups_per_grid,"
        f" {THREAD});",
        ATTENTION,
        {"q": q, "k": k, "v": v, "group": heads // kv_heads, "n": length}
        | {"head": wide(length * size), "token": wide(size), "scale": 1 / math.sqrt(size)}
        | {"mask": allowed, "mask_token": 1},
        {"out": Output((heads, 1, size), dtype)},
        (heads, 1, 1),
        (1024, 1, 1),
        {"has_mask": 1, "bool_mask": 1},
        dtype,
    )
    close(out, attention(q, k, v, allowed)[0], dtype)


@pytest.mark.parametrize("dtype", (mx.float32, mx.bfloat16))
def test_sdpa_vector_in_two_passes(dtype: mx.Dtype) -> None:
    heads, kv_heads, length, size, blocks = 4, 2, 150, 64, 32
    q = normal(1, heads, 1, size, dtype=dtype)
    k = normal(1, kv_heads, length, size, dtype=dtype, seed=1)
    v = normal(1, kv_heads, length, size, dtype=dtype, seed=2)
    constants = {"blocks": blocks}
    parts, sums, maxima = run(
        "sdpa_vector_2pass_1<T, 64>(q, k, v, out, sums, maxima, n, head, token, head, token, scale,"
        " (const device bool*)0, q, n, n, n, q, threads_per_threadgroup,"
        " thread_position_in_threadgroup, threadgroup_position_in_grid, threadgroups_per_grid,"
        " thread_index_in_simdgroup);",
        ATTENTION,
        {"q": q, "k": k, "v": v, "n": length, "head": wide(length * size)}
        | {"token": wide(size), "scale": 1 / math.sqrt(size)},
        {"out": Output((heads, blocks, size), dtype)}
        | {
            "sums": Output((heads, blocks), mx.float32),
            "maxima": Output((heads, blocks), mx.float32),
        },
        (kv_heads, 1, blocks),
        (32, heads // kv_heads, 1),
        constants,
        dtype,
    )
    (out,) = run(
        "sdpa_vector_2pass_2<T, 64>(parts, sums, maxima, out, blocks_,"
        f" threadgroup_position_in_grid, threadgroups_per_grid, {THREAD});",
        ATTENTION,
        {"parts": parts, "sums": sums, "maxima": maxima, "blocks_": blocks},
        {"out": Output((heads, 1, size), dtype)},
        (heads, 1, 1),
        (1024, 1, 1),
        constants,
        dtype,
    )
    close(out, attention(q, k, v)[0], dtype)


QUANTIZED = ("quantized_utils.h", "steel/gemm/gemm.h", "quantized.h")


def quantized(outputs: int, inputs: int, bits: int, dtype: mx.Dtype) -> tuple[mx.array, ...]:
    return tuple(mx.quantize(normal(outputs, inputs, dtype=dtype), group_size=64, bits=bits))


def product(x: mx.array, w: mx.array, scales: mx.array, biases: mx.array, bits: int) -> mx.array:
    matrix = mx.dequantize(
        w, scales.astype(mx.float32), biases.astype(mx.float32), group_size=64, bits=bits
    )
    return x.astype(mx.float32) @ matrix.T


@pytest.mark.parametrize(
    ("kernel", "bits", "inputs", "outputs"),
    (("qmv_fast_impl", 4, 512, 16), ("qmv_fast_impl", 8, 512, 16), ("qmv_impl", 6, 320, 12)),
)
def test_qmv(kernel: str, bits: int, inputs: int, outputs: int) -> None:
    dtype = mx.float16
    x = normal(2, inputs, dtype=dtype, seed=5)
    w, scales, biases = quantized(outputs, inputs, bits, dtype)
    (y,) = run(
        f"{kernel}<T, 64, {bits}>(w, scales, biases, x, y, k, n, threadgroup_position_in_grid,"
        f" {THREAD});",
        QUANTIZED,
        {"w": w, "scales": scales, "biases": biases, "x": x, "k": inputs, "n": outputs},
        {"y": Output((2, outputs), dtype)},
        (2, -(-outputs // 8), 1),
        (32, 2, 1),
        None,
        dtype,
    )
    close(y, product(x, w, scales, biases, bits), dtype)


@pytest.mark.parametrize("rows", (32, 19))
def test_qmm(rows: int) -> None:
    dtype, inputs, outputs = mx.float16, 128, 64
    x = normal(rows, inputs, dtype=dtype, seed=5)
    w, scales, biases = quantized(outputs, inputs, 4, dtype)
    (y,) = run(
        "affine_qmm_t<T, 64, 4, true, false>(w, scales, biases, x, y, k, n, m, k,"
        " (const constant int*)0, (const constant int64_t*)0, k, (const constant int*)0,"
        " (const constant int64_t*)0, (const constant int64_t*)0, (const constant int64_t*)0,"
        f" threadgroup_position_in_grid, thread_index_in_threadgroup, {THREAD});",
        QUANTIZED,
        {"w": w, "scales": scales, "biases": biases, "x": x}
        | {"k": inputs, "n": outputs, "m": rows},
        {"y": Output((rows, outputs), dtype)},
        (outputs // 32, -(-rows // 32), 1),
        (32, 2, 2),
        None,
        dtype,
    )
    close(y, product(x, w, scales, biases, 4), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kernel", "size"), (("single_row", 300), ("looped", 4500)))
def test_softmax(kernel: str, size: int, dtype: mx.Dtype) -> None:
    x = normal(3, size, dtype=dtype)
    tail = "thread_position_in_threadgroup.x"
    tail += ", threads_per_threadgroup.x" if kernel == "looped" else ""
    (y,) = run(
        f"softmax_{kernel}<T, float>(x, y, (constant int&)size, threadgroup_position_in_grid.x,"
        f" {tail}, thread_index_in_simdgroup, simdgroup_index_in_threadgroup);",
        ("softmax.h",),
        {"x": x, "size": size},
        {"y": Output((3, size), dtype)},
        (3, 1, 1),
        (1024 if kernel == "looped" else 96, 1, 1),
        None,
        dtype,
    )
    close(y, mx.softmax(x.astype(mx.float32), axis=-1), dtype)


@pytest.mark.parametrize("indices", (False, True))
def test_block_sort(indices: bool) -> None:
    x = normal(3, 200)
    kind = "uint" if indices else "T"
    (y,) = run(
        f"block_sort<T, {kind}, {str(indices).lower()}, 64, 4>(x, y, size, one, one, size, size,"
        " threadgroup_position_in_grid, thread_position_in_threadgroup);",
        ("sort.h",),
        {"x": x, "size": 200, "one": 1},
        {"y": Output((3, 200), mx.uint32 if indices else mx.float32)},
        (1, 3, 1),
        (64, 1, 1),
    )
    oracle = mx.argsort(x, axis=-1) if indices else mx.sort(x, axis=-1)
    assert mx.array_equal(y, oracle)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("aligned", (True, False))
def test_steel_gemm(aligned: bool, dtype: mx.Dtype) -> None:
    m, n, k = (64, 32, 32) if aligned else (45, 50, 24)
    a, b = normal(m, k, dtype=dtype), normal(n, k, dtype=dtype, seed=1)
    tiles = (-(-n // 32), -(-m // 32))
    parameters = packed("8i3q3i4x", m, n, k, k, k, n, *tiles, 0, 0, 0, 0, k // 16, 0)
    (d,) = run(
        "gemm<T, 32, 32, 16, 2, 2, false, true>(a, b, a, d, (const constant GEMMParams*)"
        "(ulong)parameters, (const constant GEMMAddMMParams*)0, (const constant int*)0,"
        " (const constant int64_t*)0, thread_index_in_simdgroup, simdgroup_index_in_threadgroup,"
        " threadgroup_position_in_grid, thread_position_in_threadgroup);",
        ("steel/utils.h", "steel/gemm/gemm.h", "steel/gemm/kernels/steel_gemm_fused.h"),
        {"a": a, "b": b, "parameters": parameters},
        {"d": Output((m, n), dtype)},
        (tiles[0], tiles[1], 1),
        (32, 2, 2),
        {"align_M": aligned, "align_N": aligned, "align_K": aligned},
        dtype,
    )
    close(d, a.astype(mx.float32) @ b.astype(mx.float32).T, dtype)


@pytest.mark.parametrize("dtype", (mx.float32, mx.float16))
def test_steel_attention(dtype: mx.Dtype) -> None:
    heads, kv_heads, length, keys, size = 2, 1, 40, 50, 64
    q = normal(1, heads, length, size, dtype=dtype)
    k = normal(1, kv_heads, keys, size, dtype=dtype, seed=1)
    v = normal(1, kv_heads, keys, size, dtype=dtype, seed=2)
    tall, long = length * size, keys * size
    parameters = packed(
        "6if7i12q",
        *(1, heads, size, length, keys, heads // kv_heads, 1 / math.sqrt(size)),
        *(-(-length // 32), -(-keys // 16), length // 32, keys // 16),
        *(length % 32, keys % 16, keys - length),
        *(heads * tall, tall, size, long, long, size, long, long, size, heads * tall, tall, size),
    )
    (out,) = run(
        "attention<T, 32, 16, 64, 64, 4, 1>(q, k, v, out, (const constant AttnParams*)"
        "(ulong)parameters, (const constant AttnMaskParams*)0, (const device float*)0, q,"
        " (device float*)0, thread_index_in_simdgroup, simdgroup_index_in_threadgroup,"
        " threadgroup_position_in_grid, thread_position_in_threadgroup);",
        ("steel/attn/kernels/steel_attention.h",),
        {"q": q, "k": k, "v": v, "parameters": parameters},
        {"out": Output((heads, length, size), dtype)},
        (-(-length // 32), heads, 1),
        (32, 4, 1),
        {"do_causal": 1},
        dtype,
    )
    close(out, attention(q, k, v, "causal")[0], dtype)


WHOLE = (
    "threadgroup_position_in_grid, threadgroups_per_grid, thread_position_in_threadgroup,"
    " threads_per_threadgroup, thread_index_in_simdgroup"
)


@pytest.mark.parametrize("dtype", (mx.float32, mx.int64))
@pytest.mark.parametrize("inclusive", (True, False))
def test_scan(dtype: mx.Dtype, inclusive: bool) -> None:
    size = 300
    x = mx.array(np.random.default_rng(1).integers(-9, 9, (2, size))).astype(dtype)
    (y,) = run(
        f"contiguous_scan<T, T, CumSum<T>, 4, {str(inclusive).lower()}, false>(x, y, size, {WHOLE},"
        " simdgroup_index_in_threadgroup);",
        ("scan.h",),
        {"x": x, "size": wide(size)},
        {"y": Output((2, size), dtype)},
        (1, 2, 1),
        (1024, 1, 1),
        None,
        dtype,
    )
    assert mx.array_equal(y, mx.cumsum(x, axis=-1, inclusive=inclusive))


@pytest.mark.parametrize("dtype", (mx.float32, mx.int64))
def test_row_reduce(dtype: mx.Dtype) -> None:
    rows, size = 8, 300
    x = mx.array(np.random.default_rng(1).integers(-9, 9, (rows, size))).astype(dtype)
    (y,) = run(
        f"row_reduce_simple<T, T, Sum<T>>(x, y, size, rows, {WHOLE}, simdgroups_per_threadgroup,"
        " simdgroup_index_in_threadgroup);",
        ("atomic.h", "reduction/ops.h", "reduce.h"),
        {"x": x, "size": wide(size), "rows": mx.array(rows, mx.int64)},
        {"y": Output((rows,), dtype)},
        (1, rows // 4, 1),
        (96, 1, 1),
        None,
        dtype,
    )
    assert mx.array_equal(y, x.sum(axis=-1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemv(dtype: mx.Dtype) -> None:
    rows, size = 36, 90
    matrix, vector = normal(rows, size, dtype=dtype), normal(size, dtype=dtype, seed=1)
    (y,) = run(
        "gemv<T, 4, 1, 1, 32, 4, 4, false, false>(matrix, x, x, y, size, rows, size, scale, scale,"
        " one, (const constant int*)0, zeros, zeros, zeros, one, threadgroup_position_in_grid,"
        f" thread_position_in_threadgroup, {THREAD});",
        ("steel/utils.h", "gemv.h"),
        {"matrix": matrix, "x": vector, "size": size, "rows": rows, "scale": 1.0, "one": 1}
        | {"zeros": mx.zeros((1,), mx.int64)},
        {"y": Output((rows,), dtype)},
        (-(-rows // 16), 1, 1),
        (32, 1, 4),
        None,
        dtype,
    )
    close(y, matrix.astype(mx.float32) @ vector.astype(mx.float32), dtype)


def test_logsumexp() -> None:
    x = normal(3, 300)
    (y,) = run(
        "logsumexp<T>(x, y, (constant int&)size, threadgroup_position_in_grid.x,"
        " thread_position_in_threadgroup.x, thread_index_in_simdgroup,"
        " simdgroup_index_in_threadgroup);",
        ("logsumexp.h",),
        {"x": x, "size": 300},
        {"y": Output((3,), mx.float32)},
        (3, 1, 1),
        (96, 1, 1),
    )
    close(y, mx.logsumexp(x, axis=-1), mx.float32)


def test_qmv_of_quadgroups() -> None:
    dtype, inputs, outputs = mx.float16, 64, 64
    x = normal(2, inputs, dtype=dtype, seed=5)
    w, scales, biases = quantized(outputs, inputs, 4, dtype)
    (y,) = run(
        "qmv_quad_impl<T, 64, 4, 64>(w, scales, biases, x, y, (constant int&)k, n,"
        " threadgroup_position_in_grid, quadgroup_index_in_threadgroup,"
        " thread_index_in_quadgroup);",
        QUANTIZED,
        {"w": w, "scales": scales, "biases": biases, "x": x, "k": inputs, "n": outputs},
        {"y": Output((2, outputs), dtype)},
        (2, outputs // 64, 1),
        (32, 1, 1),
        None,
        dtype,
    )
    close(y, product(x, w, scales, biases, 4), dtype)


def test_the_overlapping_rows_of_qmv_are_seen() -> None:
    """MLX's last simdgroups compute some of 13 rows twice: the same numbers, but a race."""
    w, scales, biases = quantized(13, 320, 4, mx.float16)
    with pytest.raises(SimulatorError, match="write after write"):
        run(
            "qmv_impl<T, 64, 4>(w, scales, biases, x, y, k, n, threadgroup_position_in_grid,"
            f" {THREAD});",
            QUANTIZED,
            {"w": w, "scales": scales, "biases": biases, "x": normal(320, dtype=mx.float16)}
            | {"k": 320, "n": 13},
            {"y": Output((13,), mx.float16)},
            (1, 2, 1),
            (32, 2, 1),
            None,
            mx.float16,
        )
