"""Kernels on the simulator: results, and what their definitions may say."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.simulator.kernel import SimulatorError, SimulatorOptions, metal_kernel
from bessemer.kernels.simulator.report import Mode

from .running import MODES, I, run


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_sums_of_rows(dtype: mx.Dtype, mode: Mode) -> None:
    source = """
        threadgroup float parts[8];
        uint row = threadgroup_position_in_grid.y, t = thread_index_in_threadgroup;
        float sum = 0;
        for (uint i = t; i < N; i += threads_per_threadgroup.x) sum += float(x[row * N + i]);
        sum = simd_sum(sum);
        if (thread_index_in_simdgroup == 0) parts[simdgroup_index_in_threadgroup] = sum;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (t == 0) {
            for (uint i = 1; i < simdgroups_per_threadgroup; i++) sum += parts[i];
            y[row] = T(sum);
        }
    """
    x = mx.random.normal((3, 1000), key=mx.random.key(0)).astype(dtype)
    kernel = metal_kernel("rows", ["x"], ["y"], source, options=SimulatorOptions(mode=mode))
    y = run(
        kernel,
        x,
        template=[("T", dtype), ("N", 1000)],
        grid=(256, 3, 1),
        threadgroup=(256, 1, 1),
        output_shapes=[(3,)],
        output_dtypes=[dtype],
    )
    assert y.dtype == dtype
    close = 0.05 if dtype == mx.bfloat16 else 0.02
    assert mx.allclose(y.astype(mx.float32), x.astype(mx.float32).sum(-1), atol=close, rtol=close)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_one_rounding_an_operation(dtype: mx.Dtype) -> None:
    bits = np.random.default_rng(0).integers(0, 65536, (2, 1 << 14), np.uint16)
    a, b = (mx.array(each).view(dtype) for each in bits)
    source = f"{I}s[i] = a[i] + b[i]; p[i] = a[i] * b[i];"
    kernel = metal_kernel("r", ["a", "b"], ["s", "p"], source)
    size = 1 << 14
    s, p = run(kernel, a, b, size=size, output_dtypes=[dtype] * 2)
    wide = [x.astype(mx.float32) for x in (a, b)]
    for got, want in ((s, wide[0] + wide[1]), (p, wide[0] * wide[1])):
        right = want.astype(dtype)
        same = (got.view(mx.uint16) == right.view(mx.uint16)) | (mx.isnan(got) & mx.isnan(right))
        assert mx.all(same), f"{size - int(mx.sum(same))} differ"


def test_many_buffers() -> None:
    names = [f"a{i}" for i in range(31)]
    kernel = metal_kernel("m", names, ["o"], "o[0] = 0;")
    with pytest.raises(SimulatorError, match="has 32 buffers: Metal allows 31"):
        run(kernel, *[mx.zeros((8,))] * 31)


def test_there_is_no_report_before_a_run() -> None:
    with pytest.raises(SimulatorError, match="has not run"):
        _ = metal_kernel("m", [], ["o"], "").report


def test_line_bytes() -> None:
    with pytest.raises(ValueError, match="line_bytes is 48"):
        metal_kernel("m", [], ["o"], "", options=SimulatorOptions(line_bytes=48))
