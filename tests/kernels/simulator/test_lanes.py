"""Functions of simdgroups and quadgroups, matrices and atomics, against numpy."""

from collections.abc import Callable
from functools import reduce

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from ..metal_body import FLOATS, body, columns, exact

Numbers = NDArray[np.float64]
REDUCED = (mx.int8, mx.uint8, mx.int16, mx.uint16, mx.int32, mx.uint32, *FLOATS)
GROUP = 45  # a whole simdgroup and one of 13 lanes
COUNT = 58  # and a threadgroup of 13 threads at the edge
TEMPLATE = "vec<T, 2> v = vec<T, 2>(a[i], b[i]); T x = a[i];"

Join = Callable[[int, int], int]
JOINS: dict[str, Join] = {
    "sum": lambda a, b: a + b,
    "product": lambda a, b: a * b,
    "max": max,
    "min": min,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}


def groups(width: int) -> list[list[int]]:
    """The threads of each simdgroup or quadgroup."""
    threadgroups = [range(GROUP), range(GROUP, COUNT)]
    return [list(g[at : at + width]) for g in threadgroups for at in range(0, len(g), width)]


def random_numbers(dtype: mx.Dtype, seed: int) -> tuple[mx.array, list[int]]:
    """Every sum and product of these is exact in every type but 8 bits, where it wraps."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 3, COUNT) * rng.integers(0, 2, COUNT) + (rng.random(COUNT) < 0.9)
    return mx.array(values.astype(np.int32)).astype(dtype), [int(each) for each in values]


def wrapped(values: list[int], dtype: mx.Dtype) -> Numbers:
    return exact(mx.array(np.array(values, np.int64)).astype(dtype))


@pytest.mark.parametrize("dtype", REDUCED)
def test_reductions_and_prefixes(dtype: mx.Dtype) -> None:
    names = [name for name in JOINS if dtype not in FLOATS or name not in ("and", "or", "xor")]
    widths = {"simd": 32, "quad": 4}
    (a, p), (b, q) = random_numbers(dtype, 1), random_numbers(dtype, 2)
    calls: list[str] = []
    oracles: list[Numbers] = []
    for group, width in widths.items():
        for name in names:
            results = [0] * COUNT, [0] * COUNT
            for members in groups(width):
                for values, result in zip((p, q), results, strict=True):
                    reduced = reduce(JOINS[name], (values[m] for m in members))
                    for m in members:
                        result[m] = reduced
            calls += [f"{group}_{name}(x)", f"{group}_{name}(v)[1]"]
            oracles += [wrapped(each, dtype) for each in results]
        for name, start in (("sum", 0), ("product", 1)):
            for kind in ("inclusive", "exclusive"):
                results = [0] * COUNT, [0] * COUNT
                for members in groups(width):
                    for values, result in zip((p, q), results, strict=True):
                        total = start
                        for m in members:
                            before, total = total, JOINS[name](total, values[m])
                            result[m] = total if kind == "inclusive" else before
                calls += [f"{group}_prefix_{kind}_{name}(x)", f"{group}_prefix_{kind}_{name}(v)[1]"]
                oracles += [wrapped(each, dtype) for each in results]
    got = columns(calls, {"a": a, "b": b}, dtype, TEMPLATE, GROUP, [("T", dtype)])
    for name, out, oracle in zip(calls, got, oracles, strict=True):
        assert np.array_equal(exact(out), oracle), name


Source = Callable[[int, int], int | None]
# Where a lane reads of a group so wide; None: its own. `m` is the lane, `w` the width.
SHUFFLES: dict[str, Source] = {
    "shuffle(x, 2)": lambda m, w: 2,
    "shuffle(x, ushort(i % 3))": lambda m, w: -3,
    "broadcast(x, 1)": lambda m, w: 1,
    "shuffle_xor(x, 1)": lambda m, w: m ^ 1,
    "shuffle_xor(x, 3)": lambda m, w: m ^ 3,
    "shuffle_up(x, 2)": lambda m, w: m - 2 if m >= 2 else None,
    "shuffle_down(x, 1)": lambda m, w: m + 1 if m + 1 < w else None,
    "shuffle_rotate_up(x, 1)": lambda m, w: (m - 1) % w,
    "shuffle_rotate_down(x, 3)": lambda m, w: (m + 3) % w,
    "broadcast_first(x)": lambda m, w: 0,
}


@pytest.mark.parametrize("dtype", (mx.int8, mx.uint16, mx.int32, *FLOATS))
def test_shuffles(dtype: mx.Dtype) -> None:
    """Nothing is asked of a lane that is not there."""
    values = np.arange(COUNT) + 1
    a, b = mx.array(values).astype(dtype), mx.array(values + 60).astype(dtype)
    calls = [f"{g}_{name}" for g in ("simd", "quad") for name in SHUFFLES]
    pairs = [f"{each.replace('(x', '(v')}[1]" for each in calls]
    fills = [
        f"{g}_shuffle_and_fill_{way}(x, T(b[i]), 3)"
        for g in ("simd", "quad")
        for way in ("up", "down")
    ] + ["simd_shuffle_and_fill_up(x, T(b[i]), 3, 8)"]
    got = columns(
        [*calls, *pairs, *fills], {"a": a, "b": b}, dtype, TEMPLATE, GROUP, [("T", dtype)]
    )
    for number, name in enumerate(calls):
        width = 32 if name.startswith("simd") else 4
        for members in groups(width):
            for at, m in enumerate(members):
                source = SHUFFLES[name[5:]](at, width)
                source = m % 3 if source == -3 else at if source is None else source
                if source < len(members):
                    assert exact(got[number])[m] == members[source] + 1, name
                    assert exact(got[len(calls) + number])[m] == members[source] + 61, (
                        f"{name} of v"
                    )
    for name, out in zip(fills, got[2 * len(calls) :], strict=True):
        width = 8 if name.endswith("8)") else 32 if name.startswith("simd") else 4
        for members in groups(width):
            for at, m in enumerate(members):
                source = at + (-3 if "_up" in name else 3)
                if source % width < len(members):
                    filled = 0 <= source < width
                    oracle = members[source % width] + (1 if filled else 61)
                    assert exact(out)[m] == oracle, name


def test_votes() -> None:
    (out,) = body(
        "uint i = thread_position_in_grid.x; bool odd = i % 2; device uint* o = out + i * 16;\n"
        "o[0] = uint(simd_vote::vote_t(simd_ballot(odd)));\n"
        "o[1] = uint(simd_vote::vote_t(simd_active_threads_mask()));\n"
        "o[2] = simd_any(i == 3); o[3] = simd_all(i < 45); o[4] = simd_is_first();\n"
        "o[5] = quad_vote::vote_t(quad_ballot(odd)); o[6] = quad_any(i % 4 == 3);\n"
        "o[7] = quad_all(i != 2); o[8] = quad_is_first(); o[9] = simd_ballot(true).all();\n"
        "o[10] = simd_ballot(i == 1).any(); o[11] = thread_index_in_simdgroup;\n"
        "o[12] = simdgroup_index_in_threadgroup; o[13] = threads_per_threadgroup.x;\n"
        "o[14] = thread_index_in_quadgroup; o[15] = simdgroups_per_threadgroup;",
        {"x": mx.zeros(8)},
        {"out": ((COUNT, 16), mx.uint32)},
        COUNT,
        GROUP,
    )
    got = np.array(out)
    for members in groups(32):
        odd = sum(m % 2 << at for at, m in enumerate(members))
        for at, m in enumerate(members):
            quad = members[at // 4 * 4 : at // 4 * 4 + 4]
            edge = m >= GROUP
            assert got[m].tolist() == [
                *(
                    odd,
                    (1 << len(members)) - 1,
                    3 in members,
                    all(k < 45 for k in members),
                    at == 0,
                ),
                sum(k % 2 << n for n, k in enumerate(quad)),
                *(any(k % 4 == 3 for k in quad), 2 not in quad, at % 4 == 0, len(members) == 32),
                *(
                    1 in members,
                    at,
                    (m % GROUP) // 32,
                    13 if edge else 45,
                    at % 4,
                    1 if edge else 2,
                ),
            ], m


@pytest.mark.parametrize("dtype", FLOATS)
def test_simdgroup_matrices(dtype: mx.Dtype) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-4, 5, (16, 20)).astype(np.float32) for _ in range(2))
    (out,) = body(
        "device float* products = (device float*)(out + 256); threadgroup T held[8 * 12];\n"
        "simdgroup_matrix<T, 8, 8> m, n, t; simdgroup_matrix<float, 8, 8> c, d(2.0f);\n"
        "simdgroup_load(m, a, 20); simdgroup_load(n, b, 20, ulong2(5, 3));\n"
        "simdgroup_load(t, a + 3, 20, ulong2(8, 8), true);\n"
        "simdgroup_store(m, out, 8);\n"
        "simdgroup_store(n, held, 12, ulong2(2, 0), false);\n"
        "simdgroup_barrier(mem_flags::mem_threadgroup);\n"
        "simdgroup_load(n, held + 2, 12); simdgroup_store(n, out + 64);\n"
        "simdgroup_store(t, out + 128, 8, ulong2(0, 0), true);\n"
        "simdgroup_multiply(c, m, n); simdgroup_store(c, products, 8);\n"
        "simdgroup_multiply_accumulate(c, m, n, d); simdgroup_store(c, products + 64, 8);\n"
        "simdgroup_multiply_accumulate(t, m, n, t); simdgroup_store(t, out + 192, 8);\n"
        "c = make_filled_simdgroup_matrix<float, 8, 8>(3.0f);\n"
        "c.thread_elements()[1] += thread_index_in_simdgroup;\n"
        "simdgroup_store(c, products + 128, 8); simdgroup_store(d, products + 192, 8);",
        {"a": mx.array(a).astype(dtype), "b": mx.array(b).astype(dtype)},
        {"out": ((256 + 256 * 4 // dtype.size,), dtype)},
        32,
        32,
        [("T", dtype)],
        mode="check",
    )
    short = exact(out[:256]).reshape(4, 8, 8)
    products = exact(out[256:].view(mx.float32)).reshape(4, 8, 8)
    m, n, t = a[:8, :8], b[3:11, 5:13], a[8:16, 11:19].T
    lanes = np.arange(32)
    rows = (lanes // 4 & 4) + lanes // 2 % 4
    filled = np.full((8, 8), 3.0)
    filled[rows, (lanes // 4 & 2) * 2 + lanes % 2 * 2 + 1] += lanes
    assert np.array_equal(short[0], m)
    assert np.array_equal(short[1], n)
    assert np.array_equal(short[2], t.T)
    assert np.array_equal(products[0], m @ n)
    assert np.array_equal(products[1], m @ n + 2 * np.eye(8))
    assert np.array_equal(short[3], exact(mx.array(m @ n + t).astype(dtype)))
    assert np.array_equal(products[2], filled)
    assert np.array_equal(products[3], 2 * np.eye(8))


@pytest.mark.parametrize("dtype", (mx.int32, mx.uint32))
@pytest.mark.parametrize("memory", ("device", "threadgroup"))
def test_atomics(dtype: mx.Dtype, memory: str) -> None:
    values = np.random.default_rng(6).integers(0, 1 << 20, 64).astype(np.int32)
    held = {"threadgroup": "threadgroup atomic<T> o[8];", "device": "device atomic<T>* o = out;"}
    (out, seen) = body(
        f"uint i = thread_position_in_grid.x; T x = T(a[i]); {held[memory]}\n"
        "T start = i == 3 || i == 4 ? ~0 : 0;\n"
        "if (i < 8) atomic_store_explicit(&o[i], start, memory_order_relaxed);\n"
        "threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);\n"
        "atomic_fetch_add_explicit(&o[0], x, memory_order_relaxed);\n"
        "atomic_fetch_sub_explicit(&o[1], x, memory_order_relaxed);\n"
        "atomic_fetch_max_explicit(&o[2], x, memory_order_relaxed);\n"
        "atomic_fetch_min_explicit((o + 3), x & 0x7fff, memory_order_relaxed);\n"
        "atomic_fetch_and_explicit(&o[4], x | 0xff, memory_order_relaxed);\n"
        "atomic_fetch_or_explicit(&o[5], x & 0xf0f0, memory_order_relaxed);\n"
        "atomic_fetch_xor_explicit(&o[6], x, memory_order_relaxed);\n"
        "T was = 0;\n"
        "while (!atomic_compare_exchange_weak_explicit(&o[7], &was, T(was + x),"
        " memory_order_relaxed, memory_order_relaxed)) {}\n"
        "threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);\n"
        "if (i < 8) { T last = atomic_load_explicit(&o[i], memory_order_relaxed);\n"
        "atomic_exchange_explicit(&seen[i], last, memory_order_relaxed);\n"
        "atomic_store_explicit(&out[i], last, memory_order_relaxed); }",
        {"a": mx.array(values)},
        {"out": ((8,), dtype), "seen": ((8,), dtype)},
        64,
        64,
        [("T", dtype)],
        mode="check",
        atomic=True,
        init=0,
    )
    total = int(values.sum())
    minimum = (
        min(-1, *(int(v) & 0x7FFF for v in values))
        if dtype == mx.int32
        else int((values & 0x7FFF).min())
    )
    oracle = [
        *(total, -total, int(values.max()), minimum),
        int(np.bitwise_and.reduce(values | 0xFF)),
        int(np.bitwise_or.reduce(values & 0xF0F0)),
        *(int(np.bitwise_xor.reduce(values)), total),
    ]
    assert [int(v) % (1 << 32) for v in np.array(out)] == [v % (1 << 32) for v in oracle]
    assert mx.array_equal(out, seen)


def test_atomics_of_other_types() -> None:
    (out,) = body(
        "uint i = thread_position_in_grid.x;\n"
        "atomic_fetch_add_explicit(&out[0], 0.5f, memory_order_relaxed);\n"
        "atomic_fetch_sub_explicit(&out[1], 1.5f, memory_order_relaxed);\n"
        "device atomic_ulong* wide = (device atomic_ulong*)(out + 2);\n"
        "atomic_max_explicit(wide, ulong(i) << 40, memory_order_relaxed);\n"
        "device atomic_bool* flag = (device atomic_bool*)(out + 4);\n"
        "atomic_store_explicit(flag, true, memory_order_relaxed);",
        {"x": mx.zeros(8)},
        {"out": ((5,), mx.float32)},
        32,
        32,
        atomic=True,
        init=0,
    )
    got = np.array(out)
    assert got[:2].tolist() == [16, -48]
    assert got[2:4].view(np.uint64)[0] == 31 << 40
    assert got[4:].view(np.uint32)[0] == 1
