"""Metal as the simulator reads it: types, and functions of numbers, against numpy."""

import math
from collections.abc import Callable
from fractions import Fraction

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from ..metal_body import (
    DIGITS,
    FLOATS,
    INTEGERS,
    LEAST,
    NAMES,
    bits,
    columns,
    exact,
    integers,
    rounded,
    same,
)

Numbers = NDArray[np.float64]
SHORT = (mx.float16, mx.bfloat16)
COUNT = 1024


def random_numbers(low: float, high: float, dtype: mx.Dtype, seed: int = 0) -> mx.array:
    values = np.random.default_rng(seed).uniform(low, high, COUNT).astype(np.float32)
    return mx.array(values).astype(dtype)


def patterns(dtype: mx.Dtype, count: int, seed: int) -> mx.array:
    """Any numbers of the type, subnormal, infinite and not a number as well."""
    bits = np.random.default_rng(seed).integers(0, 65536, count).astype(np.uint16)
    return mx.array(bits).view(dtype)


# Each with the numbers it is tried on; x is in double precision.
MATH: tuple[tuple[str, float, float, Callable[[Numbers], Numbers]], ...] = (
    ("exp", -8, 8, np.exp),
    ("exp2", -8, 8, np.exp2),
    ("exp10", -3, 3, lambda x: np.power(10.0, x)),
    ("log", 0.01, 100, np.log),
    ("log2", 0.01, 100, np.log2),
    ("log10", 0.01, 100, np.log10),
    ("sqrt", 0, 100, np.sqrt),
    ("rsqrt", 0.01, 100, lambda x: 1 / np.sqrt(x)),
    ("sin", -6, 6, np.sin),
    ("cos", -6, 6, np.cos),
    ("tan", -1.5, 1.5, np.tan),
    ("sinh", -4, 4, np.sinh),
    ("cosh", -4, 4, np.cosh),
    ("tanh", -4, 4, np.tanh),
    ("asin", -1, 1, np.arcsin),
    ("acos", -1, 1, np.arccos),
    ("atan", -9, 9, np.arctan),
    ("asinh", -9, 9, np.arcsinh),
    ("acosh", 1, 9, np.arccosh),
    ("atanh", -0.99, 0.99, np.arctanh),
    ("sinpi", -3, 3, lambda x: np.rint(np.sin(np.pi * x) * 1e12) / 1e12),
    ("cospi", -3, 3, lambda x: np.rint(np.cos(np.pi * x) * 1e12) / 1e12),
    ("floor", -9, 9, np.floor),
    ("ceil", -9, 9, np.ceil),
    ("trunc", -9, 9, np.trunc),
    ("rint", -9, 9, np.rint),
    ("round", -9, 9, lambda x: np.trunc(x + np.copysign(0.5, x))),
    ("fabs", -9, 9, np.abs),
    ("abs", -9, 9, np.abs),
    ("sign", -9, 9, np.sign),
    ("saturate", -2, 2, lambda x: np.clip(x, 0, 1)),
    ("fract", -9, 9, lambda x: x - np.floor(x)),
    ("fast::exp", -8, 8, np.exp),
    ("precise::log", 0.01, 100, np.log),
)


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_one_number(dtype: mx.Dtype) -> None:
    inputs = {
        f"a{n}": random_numbers(low, high, dtype, n) for n, (_, low, high, _) in enumerate(MATH)
    }
    stacked = mx.stack(list(inputs.values()))
    scalar = [f"{name}(x[{n} * {COUNT} + i])" for n, (name, *_) in enumerate(MATH)]
    lanes = [f"{name}(vec<T, 4>(x[{n} * {COUNT} + i]))[3]" for n, (name, *_) in enumerate(MATH)]
    got = columns(
        [*scalar, *lanes], {"any": mx.zeros(COUNT), "x": stacked}, dtype, template=[("T", dtype)]
    )
    for number, (name, _, _, function) in enumerate(MATH):
        oracle = rounded(function(exact(stacked[number])), dtype)
        off = np.abs(exact(got[number]) - oracle)
        ulp = np.ldexp(1.0, np.maximum(np.frexp(oracle)[1] - DIGITS[dtype], LEAST[dtype]))
        tolerance = 4 if dtype == mx.float32 else 1  # a float near a tie of 16 bits
        slack = 3e-7 if name in ("sinpi", "cospi") else 0.0
        assert (off <= tolerance * ulp + slack).all(), name
        assert dtype == mx.float32 or (off > 0).mean() < 0.004, name
        assert np.array_equal(bits(got[number]), bits(got[len(MATH) + number])), name


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_several_numbers(dtype: mx.Dtype) -> None:
    x, y, z = (random_numbers(-4, 4, dtype, seed) for seed in range(3))
    a, b, c = exact(x), exact(y), exact(z)
    near: dict[str, Numbers] = {
        "pow(fabs(x), y)": np.power(np.abs(a), b),
        "powr(fabs(x), y)": np.power(np.abs(a), b),
        "atan2(x, y)": np.arctan2(a, b),
        "fmod(x, y)": np.fmod(a, b),
        "precise::divide(x, y)": a / b,
    }
    equal: dict[str, Numbers] = {
        "max(x, y)": np.maximum(a, b),
        "min(x, y)": np.minimum(a, b),
        "fmax(x, T(NAN))": a,
        "fmin(T(NAN), y)": b,
        "max3(x, y, z)": np.maximum(np.maximum(a, b), c),
        "min3(x, y, z)": np.minimum(np.minimum(a, b), c),
        "median3(x, y, z)": np.median([a, b, c], axis=0),
        "clamp(x, T(-1), T(2))": np.clip(a, -1, 2),
        "copysign(x, y)": np.copysign(a, b),
        "step(x, y)": (b >= a).astype(float),
        "fdim(x, y)": rounded(np.maximum(a - b, 0), dtype),
        "ldexp(x, 3)": a * 8,
        "select(x, y, z > T(0))": np.where(c > 0, b, a),
        "mix(x, y, T(0.5f))": rounded(a + rounded(rounded(b - a, dtype) * 0.5, dtype), dtype),
        "nextafter(nextafter(x, T(9)), T(-9))": a,
    }
    read = "T x = p[i], y = q[i], z = r[i];"
    vectors = "".join(f"vec<T, 3> {n} = vec<T, 3>({n}_);" for n in "xyz")
    inputs = {"p": x, "q": y, "r": z}
    template = [("T", dtype)]
    got = columns([*near, *equal], inputs, dtype, read, template=template)
    for (name, oracle), out in zip({**near, **equal}.items(), got, strict=True):
        if name in near:
            relative, absolute = 2.0 ** (1 - DIGITS[dtype]), 2.0 ** LEAST[dtype]
            assert np.allclose(exact(out), rounded(oracle, dtype), relative, absolute), name
        else:
            assert same(exact(out), oracle), name
    names = [
        name.replace("T(", "vec<T, 3>(").replace("ldexp(x, 3)", "ldexp(x, int3(3))")
        for name in {**near, **equal}
    ]
    lanes = [f"({name})[1]" for name in names]
    again = columns(
        lanes,
        inputs,
        dtype,
        read.replace("x", "x_").replace("y", "y_").replace("z", "z_") + vectors,
        template=template,
    )
    assert all(
        mx.array_equal(one, two, equal_nan=True) for one, two in zip(got, again, strict=True)
    )


@pytest.mark.parametrize("dtype", SHORT)
def test_every_operation_of_16_bits_rounds_once(dtype: mx.Dtype) -> None:
    x, y, z = (patterns(dtype, 1 << 16, seed) for seed in range(3))
    a, b, c = (exact(each).astype(np.float32).astype(np.float64) for each in (x, y, z))
    with np.errstate(all="ignore"):
        product = rounded(a * b, dtype)
        # Sums and quotients round the same through float32, which is wide enough.
        oracles = {
            "x + y": rounded((a + b).astype(np.float32).astype(float), dtype),
            "x - y": rounded((a - b).astype(np.float32).astype(float), dtype),
            "x * y": product,
            "x / y": rounded((a / b).astype(np.float32).astype(float), dtype),
            "x * y + z": rounded((product + c).astype(np.float32).astype(float), dtype),
            "sqrt(x)": rounded(np.sqrt(a), dtype),
        }
    got = columns(
        [*oracles, *(f"({name.replace('x', 'v')})[1]" for name in oracles)],
        {"p": x, "q": y, "r": z},
        dtype,
        "T x = p[i], y = q[i], z = r[i]; vec<T, 2> v = vec<T, 2>(x);",
        template=[("T", dtype)],
    )
    for number, (name, values) in enumerate(oracles.items()):
        assert same(exact(got[number]), values), name
        assert same(exact(got[len(oracles) + number]), values), f"vectors: {name}"


@pytest.mark.parametrize("dtype", FLOATS)
def test_fma_rounds_once(dtype: mx.Dtype) -> None:
    """The oracle is rational: a rounding of the product would show in some of the numbers."""
    rng = np.random.default_rng(4)
    size = {mx.float32: 20, mx.float16: 6, mx.bfloat16: 20}[dtype]

    def numbers(spread: int) -> mx.array:
        significand = rng.uniform(1, 2, COUNT) * rng.choice((-1, 1), COUNT)
        return mx.array(
            np.ldexp(significand, rng.integers(-spread, spread, COUNT)).astype(np.float32)
        ).astype(dtype)

    x, y, z = numbers(size // 2), numbers(size // 2), numbers(size)
    (got,) = columns(["fma(p[i], q[i], r[i])"], {"p": x, "q": y, "r": z}, dtype)
    for a, b, c, out in zip(*(exact(each) for each in (x, y, z, got)), strict=True):
        true = Fraction(a) * Fraction(b) + Fraction(c)
        exponent = math.frexp(float(true))[1] if true else LEAST[dtype]
        for shift in (-1, 0, 1):  # float(true) may itself have been rounded up to a power of two
            step = Fraction(2) ** max(exponent + shift - DIGITS[dtype], LEAST[dtype])
            nearest = round(true / step) * step
            if (
                Fraction(2) ** (exponent + shift - 1)
                <= abs(true)
                < Fraction(2) ** (exponent + shift)
            ):
                assert Fraction(out) == nearest


INTEGER: dict[str, Callable[[int, int, int, int, bool], int]] = {
    # of x, y and z, of so many bits, signed or not
    "popcount(x)": lambda x, y, z, n, s: (x & (1 << n) - 1).bit_count(),
    "clz(x)": lambda x, y, z, n, s: n - (x & (1 << n) - 1).bit_length(),
    "ctz(x)": lambda x, y, z, n, s: (x & -x).bit_length() - 1 if x else n,
    "reverse_bits(x)": lambda x, y, z, n, s: int(f"{x & (1 << n) - 1:0{n}b}"[::-1], 2),
    "rotate(x, y)": lambda x, y, z, n, s: ((u := x & (1 << n) - 1) << y % n) | u >> (n - y % n) % n,
    "mulhi(x, y)": lambda x, y, z, n, s: x * y >> n,
    "madhi(x, y, z)": lambda x, y, z, n, s: (x * y >> n) + z,
    "hadd(x, y)": lambda x, y, z, n, s: x + y >> 1,
    "rhadd(x, y)": lambda x, y, z, n, s: x + y + 1 >> 1,
    "addsat(x, y)": lambda x, y, z, n, s: saturated(x + y, n, s),
    "subsat(x, y)": lambda x, y, z, n, s: saturated(x - y, n, s),
    "madsat(x, y, z)": lambda x, y, z, n, s: saturated(x * y + z, n, s),
    "absdiff(x, y)": lambda x, y, z, n, s: abs(x - y),
    "abs(x)": lambda x, y, z, n, s: abs(x),
    "max(x, y)": lambda x, y, z, n, s: max(x, y),
    "min(x, y)": lambda x, y, z, n, s: min(x, y),
    "clamp(x, T(3), T(9))": lambda x, y, z, n, s: min(max(x, 3), 9),
    "median3(x, y, z)": lambda x, y, z, n, s: sorted((x, y, z))[1],
    "extract_bits(x, 2, 5)": lambda x, y, z, n, s: signed_part(x >> 2, 5, s),
    "extract_bits(x, 0, 0)": lambda x, y, z, n, s: 0,
    "insert_bits(x, y, 3, 4)": lambda x, y, z, n, s: x & ~0x78 | (y & 15) << 3,
}


def saturated(x: int, size: int, signed: bool) -> int:
    low, high = (-(1 << size - 1), (1 << size - 1) - 1) if signed else (0, (1 << size) - 1)
    return min(max(x, low), high)


def signed_part(x: int, size: int, signed: bool) -> int:
    part = x & (1 << size) - 1
    return part - (1 << size) if signed and part >> size - 1 else part


@pytest.mark.parametrize("dtype", INTEGERS)
def test_functions_of_integers(dtype: mx.Dtype) -> None:
    size, signed = dtype.size * 8, NAMES[dtype][0] != "u"
    low, high = (-(1 << size - 1), (1 << size - 1) - 1) if signed else (0, (1 << size) - 1)
    rng = np.random.default_rng(size)
    kind = f"{'iu'[not signed]}{dtype.size}"
    limits = np.array([low, high, 0, 1, low, high, high, high], kind)
    x, y, z = (
        mx.array(np.concatenate((rng.integers(low, high, 120, kind, endpoint=True), limits)))
        for _ in range(3)
    )
    names = list(INTEGER)
    vectors = [f"({each.replace('T(', 'vec<T, 4>(')})[2]" for each in names]
    read = "T x = p[i], y = q[i], z = r[i];"
    inputs, template = {"p": x, "q": y, "r": z}, [("T", dtype)]
    got = columns(names, inputs, dtype, read, template=template)
    wide = "vec<T, 4> x = vec<T, 4>(p[i]), y = vec<T, 4>(q[i]), z = vec<T, 4>(r[i]);"
    again = columns(vectors, inputs, dtype, wide, template=template)
    for name, one, two in zip(names, got, again, strict=True):
        triples = zip(integers(x), integers(y), integers(z), strict=True)
        oracle = [signed_part(INTEGER[name](*each, size, signed), size, signed) for each in triples]
        assert integers(one) == oracle, name
        assert integers(two) == oracle, f"vectors: {name}"


def test_products_of_24_bits() -> None:
    x = mx.array(np.array([0x01ABCDEF, 0x00FFFFFF, 3, 0x7FFFFFFF] * 2, np.int32))
    low, high = columns(["mul24(p[i], 3)", "mad24(p[i], 3, 1)"], {"p": x}, mx.int32)
    oracle = [signed_part(signed_part(each, 24, True) * 3, 32, True) for each in integers(x)]
    assert integers(low) == oracle
    assert integers(high) == [each + 1 for each in oracle]


def test_relations_and_geometry() -> None:
    x = mx.array([0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan, 1e-40])
    a = np.array(x)
    with np.errstate(all="ignore"):
        oracles = {
            "isnan(x)": np.isnan(a),
            "isinf(x)": np.isinf(a),
            "isfinite(x)": np.isfinite(a),
            "isnormal(x)": np.isfinite(a) & (np.abs(a) > 1e-37),
            "signbit(x)": np.signbit(a),
            "isunordered(x, 1.0f)": np.isnan(a),
            "isordered(x, 1.0f)": ~np.isnan(a),
            "isnan(float3(1, x, 1))[1]": np.isnan(a),
            "any(isinf(float2(0, x)))": np.isinf(a),
            "all(isfinite(float4(x, 1, 2, 3)))": np.isfinite(a),
            "any(float2(x, 1) > float2(1, 2))": a > 1,
            "!all(bool2(true, x > 0))": ~(a > 0),
            "(bool3(true) & bool3(x > 0, true, false))[0]": a > 0,
            "length(float2(3, 4)) == 5": a == a + np.nan_to_num(0 * a)
            if False
            else np.ones(8, bool),
            "dot(float3(1, 2, 3), float3(4, 5, 6)) == 32": np.ones(8, bool),
            "all(cross(float3(1, 0, 0), float3(0, 1, 0)) == float3(0, 0, 1))": np.ones(8, bool),
            "distance(float2(1, 1), float2(4, 5)) == 5": np.ones(8, bool),
            "fabs(length(normalize(float4(1, 2, 3, 4))) - 1) < 1e-6": np.ones(8, bool),
            "all(reflect(float2(1, -1), float2(0, 1)) == float2(1, 1))": np.ones(8, bool),
            "all(faceforward(float2(1), float2(1), float2(1)) == float2(-1))": np.ones(8, bool),
        }
    got = columns(list(oracles), {"p": x}, mx.uint8, "float x = p[i];")
    for (name, values), out in zip(oracles.items(), got, strict=True):
        assert np.array_equal(np.array(out).astype(bool), values), name


def test_packing() -> None:
    words = mx.array(
        np.random.default_rng(5).integers(0, 1 << 32, COUNT, dtype=np.uint64).astype(np.uint32)
    )
    w = np.array(words)
    byte = [(w >> 8 * k) & 255 for k in range(4)]
    short = [(w >> 16 * k) & 65535 for k in range(2)]
    oracles = {
        "unpack_unorm4x8_to_float(w)[2]": byte[2] / 255,
        "unpack_snorm4x8_to_float(w)[3]": np.maximum(byte[3].astype(np.int8) / 127, -1),
        "unpack_unorm2x16_to_float(w)[1]": short[1] / 65535,
        "unpack_snorm2x16_to_float(w)[0]": np.maximum(short[0].astype(np.int16) / 32767, -1),
        "unpack_unorm10a2_to_float(w)[1]": ((w >> 10) & 1023) / 1023,
        "unpack_unorm10a2_to_float(w)[3]": (w >> 30) / 3,
        "unpack_unorm565_to_float(ushort(w))[1]": ((w >> 5) & 63) / 63,
        "unpack_unorm4x8_to_half(w)[0]": (byte[0] / 255).astype(np.float16),
    }
    got = columns(list(oracles), {"words": words}, mx.float32, "uint w = words[i];")
    for (name, values), out in zip(oracles.items(), got, strict=True):
        assert np.allclose(np.array(out), values.astype(np.float64), rtol=2e-7, atol=1e-9), name
    back = columns(
        [
            "pack_float_to_unorm4x8(unpack_unorm4x8_to_float(w))",
            "pack_half_to_unorm4x8(unpack_unorm4x8_to_half(w))",
            "pack_float_to_unorm2x16(unpack_unorm2x16_to_float(w))",
            "pack_float_to_unorm10a2(unpack_unorm10a2_to_float(w))",
            "pack_float_to_srgb_unorm4x8(unpack_unorm4x8_srgb_to_float(w))",
            "pack_float_to_snorm4x8(float4(-2, -1, 0, 1))",
            "as_type<uint>(char4(-127, -127, 0, 127))",
        ],
        {"words": words},
        mx.uint32,
        "uint w = words[i];",
    )
    for out in back[:5]:
        assert mx.array_equal(out, words)
    assert mx.array_equal(back[5], back[6])
