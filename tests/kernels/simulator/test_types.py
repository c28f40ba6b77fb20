"""Metal as the simulator reads it: vectors, classes in every memory, and what it refuses."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.simulator.kernel import MetalCompileError

from ..metal_body import FLOATS, NAMES, body, columns, exact

EIGHT = mx.arange(8, dtype=mx.float32)
CONSTRUCTED = {
    "float4(1, float2(2, 3), 4)[2]": 3,
    "float4(float3(1, 2, 3), 4).w": 4,
    "float4(7).z": 7,
    "float4(half4(1, 2, 3, 4)).y": 2,
    "vec<T, 4>(float2(1, 2), int2(3, 4)).w": 4,
    "float(vec<T, 2>(int2(5, 6)).y)": 6,
    "int3(1.9f, -1.9f, 2)[1]": -1,
    "v.wzyx.x": 4,
    "v.xxyy[2]": 2,
    "v.rgb.b": 3,
    "v.hi.y": 4,
    "v.odd.x": 2,
    "(w.xy = v.zw, w.y)": 4,
    "(w = v, w.x += 2, w.x)": 3,
    "float2(v.yz).y": 3,
    "(v * 2 + float4(1)).w": 9,
    "(1 / v).w": 0.25,
    "((float4)(v < 3 ? v : -v)).z": -3,
    "float(bool4(v > 2)[3])": 1,
    "float(bool2(false, true)[1])": 1,
    "as_type<float>(as_type<int>(1.5f))": 1.5,
    "float(as_type<half2>(as_type<uint>(half2(3, 4))).y)": 4,
    "float(as_type<uchar4>(0x04030201u).w)": 4,
    "float(as_type<ulong>(uint2(1, 1)) >> 32)": 1,
    "float(as_type<half>(ushort(0x3c00)))": 1,
    "float(1.5h + 1h)": 2.5,
    "packed_float3(1, 2, 3).y": 2,
    "(packed_float3(v.xyz) * 2 + v.xyz).z": 9,
    "float3(packed_float3(4)).z": 4,
    "packed_half4(1, 2, 3, 4).w": 4,
    "float(sizeof(packed_float3))": 12,
    "float(sizeof(float3))": 16,
    "float(alignof(packed_half4))": 2,
    "float(sizeof(packed_short3))": 6,
    "float(short(uchar(255) + uchar(1)))": 256,
    "float(is_floating_point_v<half> && !is_integral_v<float> && is_unsigned_v<uchar>)": 1,
    "numeric_limits<half>::max()": 65504,
    "numeric_limits<int>::lowest()": -(2.0**31),
    "float(numeric_limits<bfloat>::epsilon())": 2.0**-7,
    "table[int(v.z)]": 9,
    "Ks<3>::value": 3,
    "float(true_type::value)": 1,
}


def test_vectors() -> None:
    (out,) = body(
        "float4 v = float4(1, 2, 3, 4), w = v; int n = 0;\n"
        + "".join(f"{{ w = v; out[n++] = {each}; }}\n" for each in CONSTRUCTED),
        {"x": EIGHT},
        {"out": ((len(CONSTRUCTED),), mx.float32)},
        1,
        template=[("T", mx.float16)],
        header="constant float table[4] = {1, 4, 7, 9};\n"
        "template <int N> struct Ks { static constexpr constant int value = N; };\n",
    )
    for (name, oracle), got in zip(CONSTRUCTED.items(), exact(out), strict=True):
        assert got == oracle, name


@pytest.mark.parametrize("dtype", (mx.int8, mx.uint16, mx.int64, *FLOATS))
def test_vectors_and_packed_ones_in_device_memory(dtype: mx.Dtype) -> None:
    x = mx.arange(24).astype(dtype)
    name = NAMES[dtype]
    (out,) = body(
        f"device {name}4* wide = (device {name}4*)out;\n"
        f"const device packed_{name}3* three = (const device packed_{name}3*)x;\n"
        f"const device packed_{name}4* four = (const device packed_{name}4*)(x + 1);\n"
        f"threadgroup packed_{name}3 held[2]; held[1] = three[2];\n"
        f"wide[0] = four[1]; wide[1].xyz = held[1]; wide[1].w = three[3].z;\n"
        f"wide[2] = {name}4(three[0], 1); wide[2].yw = four[0].wz;",
        {"x": x},
        {"out": ((12,), dtype)},
        1,
        mode="check",
        init=0,  # to write some components clang reads the whole vector
    )
    assert exact(out).tolist() == [5, 6, 7, 8, 6, 7, 8, 11, 0, 4, 2, 3]


CLASSES = """
struct Point {
  float x;
  int n;
  float sum() const { return x + n; }
  void grow(float by) thread { x += by; }
  float scaled(float by) const device { return x * by; }
};
struct Pair { Point a; half h[3]; };
template <class T> struct Reader {
  const device T* from;
  threadgroup T* to;
  Reader(const device T* from, threadgroup T* to) thread : from(from), to(to) {}
  void next() thread { from += 4; }
  void load(short lane) const thread { to[lane] = from[lane]; }
};
float total(thread const Point& p) { return p.sum(); }
float total(device const Point& p) { return 100 + p.sum(); }
"""


def test_classes_in_every_memory() -> None:
    """They are copied by value out of and into device, threadgroup and constant memory."""
    points = np.array([(1.5, 2), (3.5, 4), (5.5, 6), (7.5, 8)], [("x", "f4"), ("n", "i4")])
    (out,) = body(
        "const device Point* from = (const device Point*)x;\n"
        "device Point* back = (device Point*)(out + 10);\n"
        "const constant Point* fixed = (const constant Point*)y;\n"
        "threadgroup Point shared[2]; threadgroup Pair pairs[1]; threadgroup float loaded[4];\n"
        "Point p = from[1]; p.grow(1); shared[0] = p; shared[1] = from[2];\n"
        "Point q = shared[1]; Point c = fixed[1]; Pair pair = {c, {1, 2, 3}}; pairs[0] = pair;\n"
        "back[0] = p; back[1] = fixed[0]; back[2] = shared[0]; pair = pairs[0];\n"
        "out[0] = p.sum(); out[1] = q.sum(); out[2] = c.sum(); out[3] = from[3].sum();\n"
        "out[4] = shared[0].sum(); out[5] = fixed[0].sum(); out[6] = from[0].scaled(2);\n"
        "out[7] = total(p); out[8] = total(from[0]); out[9] = pair.a.x + float(pair.h[2]);\n"
        "Reader<float> reader(x, loaded); reader.next(); reader.load(2); out[16] = loaded[2];",
        {
            "x": mx.array(points.view(np.float32)),
            "y": mx.array(points.view(np.float32)[:4]),
        },
        {"out": ((17,), mx.float32)},
        1,
        header=CLASSES,
        mode="check",
    )
    four = float(np.array(4, np.int32).view(np.float32))
    two = float(np.array(2, np.int32).view(np.float32))
    sums = [8.5, 11.5, 7.5, 15.5, 8.5, 3.5, 3, 8.5, 103.5, 6.5]
    assert exact(out).tolist() == [*sums, 4.5, four, 1.5, two, 4.5, four, 7.5]


def test_complex_numbers() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((2, 16)).astype(np.float32).view(np.complex64) for _ in range(2))
    (out,) = body(
        "uint i = thread_position_in_grid.x; complex64_t p = a[i];\n"
        "out[i] = p * b[i]; out[16 + i] = p / b[i]; out[32 + i] = p + b[i] - 2.0f;\n"
        "out[48 + i] = -p; out[48 + i] += complex64_t(1, 1);\n"
        "out[64 + i] = complex64_t(p >= b[i], p == p); out[80 + i] = log1p(p);",
        {"a": mx.array(a.ravel()), "b": mx.array(b.ravel())},
        {"out": ((6, 16), mx.complex64)},
        16,
        mode="check",
    )
    p, q = a.ravel().astype(np.complex128), b.ravel().astype(np.complex128)
    oracle = np.stack((p * q, p / q, p + q - 2, 1 + 1j - p, (p.real >= q.real) + 1j, np.log1p(p)))
    assert np.allclose(np.array(out), oracle, rtol=1e-5, atol=1e-6)


def test_what_mlx_prepends() -> None:
    x = mx.arange(120, dtype=mx.float32).reshape(2, 3, 4, 5).transpose(3, 1, 0, 2)
    flat = columns(
        [
            "x[elem_to_loc(i, x_shape, x_strides, x_ndim)]",
            "x[elem_to_loc(uint3(i % 4, i / 4 % 2, i / 8), x_shape, x_strides, x_ndim)]",
            "x[looped.location()]",
            "ceildiv(int(i), 7)",
            "log1p(x[0] + 1e-6f * i)",
            "float(log1p(bfloat16_t(1)))",
            "i == 0 ? float(Limits<half>::max) : i == 1 ? float(Limits<bfloat>::finite_min)"
            " : float(Limits<int>::min)",
            "hypot(3.0f * i, 4.0f * i)",
            "float(simd_shuffle(ulong(i) << 40, ushort(3)) >> 40)",
            "float(simd_shuffle_down(i == 5, ushort(1)) && i != 119)",
            "simd_shuffle_up(complex64_t(0, i), ushort(1)).imag",
            "select(float(simd_shuffle_and_fill_up(long(i), long(-7), ushort(1))), -7.0f, i == 96)",
            "WorkPerThread<half>::n",
            "float(bfloat16_to_uint16(uint16_to_bfloat16(ushort(i + 300))))",
            "float(cast_to<bool>(0.5f) + MAX_REDUCE_SPECIALIZED_DIMS + SOFTMAX_N_READS)",
        ],
        {"x": x},
        mx.float32,
        "LoopedElemToLoc<4> looped(x_ndim);\n"
        "for (uint n = 0; n < i; n++) looped.next(x_shape, x_strides);",
        group=32,
    )
    i = np.arange(120)
    shuffled = np.where(i % 32 == 31, i == 5, (i + 1) == 5)
    oracles = [
        *[np.array(x).ravel()] * 3,
        -(-i // 7),
        np.log1p(1e-6 * i),
        np.full(120, exact(mx.array(np.log(2), mx.float32).astype(mx.bfloat16))),
        np.where(i == 0, np.inf, np.where(i == 1, -3.3895313892515355e38, -(2.0**31))),
        5 * i,
        i // 32 * 32 + 3,
        shuffled,
        np.where(i % 32, i - 1, i),
        np.where(i % 32, i - 1, -7),
        np.full(120, 4),
        i + 300,
        np.full(120, 9),
    ]
    for number, (got, oracle) in enumerate(zip(flat, oracles, strict=True)):
        assert np.allclose(exact(got), oracle.astype(float), rtol=2e-6), number


READ = "float f({} const float* p) {{ return p[0]; }}"
RELAXED = "memory_order_relaxed"
REFUSED = {
    "double": ("double d = 1; out[0] = float(d);", ""),
    "64 bits in a simdgroup": ("out[0] = simd_sum(long(1));", ""),
    "bool in a simdgroup": ("out[0] = simd_sum(true);", ""),
    "bool in a quadgroup": ("out[0] = quad_shuffle_xor(true, 1);", ""),
    "max of half and float": ("out[0] = max(half(1), 1.0f);", ""),
    "three of four": ("float4 v = float4(1, 2, 3); out[0] = v.x;", ""),
    "device as threadgroup": ("out[0] = f(x);", READ.format("threadgroup")),
    "device as thread": ("out[0] = f(x);", READ.format("thread")),
    "constant as device": ("out[0] = f(small);", READ.format("device")),
    "device as constant": ("out[0] = f(x);", READ.format("constant")),
    "device element as thread": ("f(out[0]);", "void f(thread float& p) { p = 1; }"),
    "atomic<half>": (f"atomic_load_explicit((device atomic<half>*)out, {RELAXED});", ""),
    "and of floats": (f"atomic_fetch_and_explicit((device atomic_float*)out, 1, {RELAXED});", ""),
    "matrix of int": ("simdgroup_matrix<int, 8, 8> m; (void)m;", ""),
    "matrix of 16": ("simdgroup_matrix<float, 16, 8> m; (void)m;", ""),
    "write to constant": ("small[0] = 1;", ""),
    "as_type of two sizes": ("out[0] = as_type<float>(half(1));", ""),
    "textures": ("texture2d<float> t; (void)t;", ""),
    "threadgroup variable of a function": (
        "f();",
        "void f() { threadgroup float s[4]; s[0] = 1; }",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    source, header = REFUSED[name]
    inputs = {"x": EIGHT, "small": mx.zeros(4)}
    with pytest.raises(MetalCompileError):
        body(source, inputs, {"out": ((8,), mx.float32)}, 1, header=header)
