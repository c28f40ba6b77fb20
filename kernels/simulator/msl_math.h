/* Floating-point functions: computed in float, rounded once to the type; relational functions.

   libm is closer to exact than a GPU: `fast::` is as good as `precise::` here, but apple_like. */
#pragma once
#include "msl_traits.h"

namespace metal {
/* f of one component after another; f gets and gives components. */
template <class R, class F, class T, class... More>
__MSL_INLINE constexpr R __each(F f, T first, More... more) {
  if constexpr (__is_vector<T>) {
    R result = {};
    for (int i = 0; i < __size<T>; i++)
      result[i] = f(__element<T>(first[i]), __element<T>(more[i])...);
    return result;
  } else {
    return f(first, more...);
  }
}
template <class T>
using __floating = enable_if_t<__is_floating<T>, T>;
template <class T>
using __truth = conditional_t<__is_vector<T>, vec<bool, __is_vector<T> ? __size<T> : 2>, bool>;

#define __MSL_MATH1(NAME, EXPRESSION)                                 \
  template <class T>                                                  \
  __MSL_INLINE __floating<T> NAME(T v) {                              \
    typedef __element<T> E;                                           \
    return __each<T>([](E e) { float x = float(e); return E(EXPRESSION); }, v); \
  }
#define __MSL_MATH2(NAME, EXPRESSION)                                 \
  template <class T>                                                  \
  __MSL_INLINE __floating<T> NAME(T v, __as<T> w) {                   \
    typedef __element<T> E;                                           \
    return __each<T>(                                                 \
        [](E e, E g) { float x = float(e), y = float(g); return E(EXPRESSION); }, v, w); \
  }
#define __MSL_MATH3(NAME, EXPRESSION)                                 \
  template <class T>                                                  \
  __MSL_INLINE __floating<T> NAME(T v, __as<T> w, __as<T> u) {        \
    typedef __element<T> E;                                           \
    return __each<T>(                                                 \
        [](E e, E g, E h) {                                           \
          float x = float(e), y = float(g), z = float(h);             \
          return E(EXPRESSION);                                       \
        },                                                            \
        v, w, u);                                                     \
  }

/* sin and cos of pi x: all is exact up to the sine of an angle of a quarter turn at most. */
__MSL_INLINE float __sinpi_quarter(__msl_wide x) {
  return float(__builtin_sin(x * __msl_wide(3.14159265358979323846L)));
}
__MSL_INLINE float __sinpi(float x) {
  float rest = x - 2.0f * __builtin_rintf(0.5f * x);
  float folded = 1.0f - __builtin_fabsf(rest);
  return __sinpi_quarter(folded < 0.5f ? __builtin_copysignf(folded, rest) : rest);
}
__MSL_INLINE float __cospi(float x) {
  float rest = x - 2.0f * __builtin_rintf(0.5f * x);
  return __sinpi_quarter(__msl_wide(0.5f) - __builtin_fabs(__msl_wide(rest)));
}

/* How far a function may be off, in the options' apple_like: tables 8.1 and 8.2 of the Metal Shading
   Language Specification (precise:: and fast::). By all of it, this way or that by x's bits. */
#ifdef MSL_APPLE_LIKE
__MSL_INLINE uint __scrambled(float x) {
  uint bits = (__builtin_bit_cast(uint, x) ^ 0x9e3779b9u) * 0x85ebca6bu;
  bits = (bits ^ bits >> 13) * 0xc2b2ae35u;
  return bits ^ bits >> 16;
}
__MSL_INLINE float __off_by(__msl_wide exact, __msl_wide bound, float x) {
  float nearest = float(exact);
  if (!__builtin_isfinite(nearest) || exact == 0)
    return nearest;
  float moved = float(__scrambled(x) & 1u ? exact + bound : exact - bound);
  return __builtin_fabs(__msl_wide(moved) - exact) > bound ? __builtin_nextafterf(moved, nearest) : moved;
}
__MSL_INLINE float __off(__msl_wide exact, float ulps, float x) {
  int exponent;
  (void)__builtin_frexp(exact, &exponent);
  return __off_by(exact, ulps * __builtin_ldexp(__msl_wide(1), exponent - 24), x);
}
__MSL_INLINE float __any_number(float x, float y) { /* of max and min where one is NaN */
  return __scrambled(x + y) & 1u ? NAN : 12345.0f;
}
#define __MSL_NEAR(NAME, ULPS) __off(__builtin_##NAME(__msl_wide(x)), ULPS, x)
#define __MSL_WITHIN(NAME, BOUND) __off_by(__builtin_##NAME(__msl_wide(x)), BOUND, x)
#define __MSL_OFF(VALUE, ULPS) __off(VALUE, ULPS, x)
#else
#define __MSL_NEAR(NAME, ULPS) __builtin_##NAME##f(x)
#define __MSL_OFF(VALUE, ULPS) (VALUE)
#endif

/* The functions that exist thrice: metal:: and metal::fast::, which are the same, metal::precise::. */
#define __MSL_PRECISE                                                                   \
  __MSL_MATH1(exp, __MSL_NEAR(exp, 4))                                                  \
  __MSL_MATH1(exp2, __MSL_NEAR(exp2, 4))                                                \
  __MSL_MATH1(exp10, float(__MSL_OFF(__builtin_pow(__msl_wide(10), __msl_wide(x)), 4))) \
  __MSL_MATH1(log, __MSL_NEAR(log, 4))                                                  \
  __MSL_MATH1(log2, __MSL_NEAR(log2, 4))                                                \
  __MSL_MATH1(log10, __MSL_NEAR(log10, 4))                                              \
  __MSL_MATH1(sqrt, __builtin_sqrtf(x))                                                 \
  __MSL_MATH1(rsqrt, float(1 / __builtin_sqrt(__msl_wide(x))))                          \
  __MSL_MATH1(sin, __MSL_NEAR(sin, 4))                                                  \
  __MSL_MATH1(cos, __MSL_NEAR(cos, 4))                                                  \
  __MSL_MATH1(tan, __MSL_NEAR(tan, 6))                                                  \
  __MSL_MATH1(sinh, __MSL_NEAR(sinh, 4))                                                \
  __MSL_MATH1(cosh, __MSL_NEAR(cosh, 4))                                                \
  __MSL_MATH1(tanh, __MSL_NEAR(tanh, 5))                                                \
  __MSL_MATH1(asin, __MSL_NEAR(asin, 4))                                                \
  __MSL_MATH1(acos, __MSL_NEAR(acos, 4))                                                \
  __MSL_MATH1(atan, __MSL_NEAR(atan, 5))                                                \
  __MSL_MATH1(asinh, __MSL_NEAR(asinh, 4))                                              \
  __MSL_MATH1(acosh, __MSL_NEAR(acosh, 4))                                              \
  __MSL_MATH1(atanh, __MSL_NEAR(atanh, 5))                                              \
  __MSL_MATH1(sinpi, __MSL_OFF(__sinpi(x), 3.5f))                                       \
  __MSL_MATH1(cospi, __MSL_OFF(__cospi(x), 3.5f))                                       \
  __MSL_MATH1(tanpi, __MSL_OFF(__sinpi(x) / __cospi(x), 4))                             \
  __MSL_MATH2(pow, __MSL_OFF(__builtin_powf(x, y), 15))                                 \
  __MSL_MATH2(powr, x < 0.0f ? NAN : __MSL_OFF(__builtin_powf(x, y), 15))               \
  __MSL_MATH2(atan2, __MSL_OFF(__builtin_atan2f(x, y), 5))                              \
  __MSL_MATH2(fmod, __builtin_fmodf(x, y))                                              \
  __MSL_MATH2(divide, x / y)
#ifdef MSL_APPLE_LIKE
#define __MSL_TURN (x >= -M_PI_F && x <= M_PI_F ? 0x1p-13f : 0x1p-10f)
#define __MSL_HALF_TURN (x >= -1.0f && x <= 1.0f ? 0x1p-13f : 0x1p-10f)
#define __MSL_ONE (x >= 0.5f && x <= 2.0f)
#define __MSL_FAST                                                                            \
  __MSL_MATH1(exp, __MSL_NEAR(exp, 3 + __builtin_floorf(__builtin_fabsf(2 * x))))             \
  __MSL_MATH1(exp2, __MSL_NEAR(exp2, 3 + __builtin_floorf(__builtin_fabsf(2 * x))))           \
  __MSL_MATH1(exp10, float(exp2(x * 3.32192809488736235f)))                                   \
  __MSL_MATH1(log, __MSL_ONE ? __MSL_WITHIN(log, 0x1p-21f) : __MSL_NEAR(log, 3))              \
  __MSL_MATH1(log2, __MSL_ONE ? __MSL_WITHIN(log2, 0x1p-22f) : __MSL_NEAR(log2, 2))           \
  __MSL_MATH1(log10, log2(x) * 0.301029995663981195f)                                         \
  __MSL_MATH1(rsqrt, __MSL_OFF(1 / __builtin_sqrt(__msl_wide(x)), 2))                         \
  __MSL_MATH1(sqrt, x == 0 || __builtin_isinf(x) ? __builtin_sqrtf(x) : x * rsqrt(x))         \
  __MSL_MATH1(sin, __MSL_WITHIN(sin, __MSL_TURN))                                             \
  __MSL_MATH1(cos, __MSL_WITHIN(cos, __MSL_TURN))                                             \
  __MSL_MATH1(tan, sin(x) * (1 / cos(x)))                                                     \
  __MSL_MATH1(sinh, 0.5f * (exp(x) - exp(-x)))                                                \
  __MSL_MATH1(cosh, 0.5f * (exp(x) + exp(-x)))                                                \
  __MSL_MATH1(tanh, (exp(2 * x) - 1) / (exp(2 * x) + 1))                                      \
  __MSL_MATH1(asin, __MSL_NEAR(asin, 5))                                                      \
  __MSL_MATH1(acos, __MSL_NEAR(acos, 5))                                                      \
  __MSL_MATH1(atan, __MSL_NEAR(atan, 5))                                                      \
  __MSL_MATH1(asinh, log(x + sqrt(x * x + 1)))                                                \
  __MSL_MATH1(acosh, log(x + sqrt(x * x - 1)))                                                \
  __MSL_MATH1(atanh, 0.5f * log((1 + x) / (1 - x)))                                           \
  __MSL_MATH1(sinpi, __off_by(__sinpi(x), __MSL_HALF_TURN, x))                                \
  __MSL_MATH1(cospi, __off_by(__cospi(x), __MSL_HALF_TURN, x))                                \
  __MSL_MATH1(tanpi, tan(x * M_PI_F))                                                         \
  __MSL_MATH2(pow, float(exp2(y * log2(x))))                                                  \
  __MSL_MATH2(powr, float(exp2(y * log2(x))))                                                 \
  __MSL_MATH2(atan2, atan(x / y) + (y > 0 ? 0 : x > 0 ? M_PI_F : -M_PI_F))                    \
  __MSL_MATH2(fmod, x - y * __builtin_truncf(x / y))                                          \
  __MSL_MATH2(divide, __MSL_OFF(__msl_wide(x) / __msl_wide(y), 2.5f))
#else
#define __MSL_FAST __MSL_PRECISE
#endif
__MSL_FAST
namespace fast {
__MSL_FAST
}
namespace precise {
__MSL_PRECISE
}
#undef __MSL_FAST
#undef __MSL_PRECISE

/* The largest number of a type below 1: what fract gives at most. */
template <class E>
inline constexpr float __below_one = 1.0f - float(numeric_limits<E>::epsilon()) / 2;
__MSL_INLINE float __fract(float x, float below_one) {
  float rest = x - __builtin_floorf(x);
  return rest < below_one ? rest : __builtin_isnan(x) ? x : __builtin_isinf(x) ? 0.0f : below_one;
}

__MSL_MATH1(floor, __builtin_floorf(x))
__MSL_MATH1(ceil, __builtin_ceilf(x))
__MSL_MATH1(trunc, __builtin_truncf(x))
__MSL_MATH1(rint, __builtin_rintf(x))
__MSL_MATH1(round, __builtin_roundf(x))
__MSL_MATH1(fabs, __builtin_fabsf(x))
__MSL_MATH1(fract, __fract(x, __below_one<E>))
__MSL_MATH1(saturate, x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f)
__MSL_MATH1(sign, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : __builtin_isnan(x) ? 0.0f : x)
__MSL_MATH2(copysign, __builtin_copysignf(x, y))
__MSL_MATH2(step, y < x ? 0.0f : 1.0f)
__MSL_MATH2(fdim, __builtin_isnan(x) || __builtin_isnan(y) ? NAN : x > y ? x - y : 0.0f)

/* x * y + z in a float rounded to odd: a second rounding, to 16 bits, then is as one. */
__MSL_INLINE float __fma_to_odd(float x, float y, float z) {
#pragma clang fp contract(off)
  __msl_wide product = __msl_wide(x) * __msl_wide(y); /* exact: 11 bits each at most */
  __msl_wide sum = product + __msl_wide(z);
  float nearest = float(sum);
  if (!__builtin_isfinite(nearest))
    return nearest;
  __msl_wide back = sum - product;
  __msl_wide error = (product - (sum - back)) + (__msl_wide(z) - back);
  __msl_wide rest = (sum - __msl_wide(nearest)) + error;
  uint bits = __builtin_bit_cast(uint, nearest);
  if (rest == 0 || (bits & 1u))
    return nearest;
  if (nearest == 0)
    return rest < 0 ? -numeric_limits<float>::denorm_min() : numeric_limits<float>::denorm_min();
  bool outwards = (rest > 0) == (nearest > 0);
  return __builtin_bit_cast(float, outwards ? bits + 1u : bits - 1u);
}
template <class E>
__MSL_INLINE E __fma(E x, E y, E z) {
  if constexpr (is_same_v<E, float>)
    return __builtin_fmaf(x, y, z);
  else
    return E(__fma_to_odd(float(x), float(y), float(z)));
}
template <class T>
__MSL_INLINE __floating<T> fma(T x, __as<T> y, __as<T> z) {
  typedef __element<T> E;
  return __each<T>([](E a, E b, E c) { return __fma<E>(a, b, c); }, x, y, z);
}

/* Of a number and a NaN, Metal's max and min give the number; what fast ones give is undefined. */
template <bool Precise, class E>
__MSL_INLINE constexpr E __greater(E a, E b) {
  if constexpr (__is_float<E>) {
#ifdef MSL_APPLE_LIKE
    if (!Precise && (a != a || b != b))
      return E(__any_number(float(a), float(b)));
#endif
    return a != a ? b : b != b ? a : a < b ? b : a;
  } else
    return a < b ? b : a;
}
template <bool Precise, class E>
__MSL_INLINE constexpr E __lesser(E a, E b) {
  if constexpr (__is_float<E>) {
#ifdef MSL_APPLE_LIKE
    if (!Precise && (a != a || b != b))
      return E(__any_number(float(a), float(b)));
#endif
    return a != a ? b : b != b ? a : b < a ? b : a;
  } else
    return b < a ? b : a;
}
/* A vector may have one number for all its components. */
#define __MSL_EXTREMA(PRECISE)                                                                   \
  template <class T>                                                                             \
  __MSL_INLINE constexpr T max(T x, T y) {                                                       \
    typedef __element<T> E;                                                                      \
    return __each<T>([](E a, E b) { return __greater<PRECISE, E>(a, b); }, x, y);                \
  }                                                                                              \
  template <class T>                                                                             \
  __MSL_INLINE constexpr T min(T x, T y) {                                                       \
    typedef __element<T> E;                                                                      \
    return __each<T>([](E a, E b) { return __lesser<PRECISE, E>(a, b); }, x, y);                 \
  }                                                                                              \
  template <class T>                                                                             \
  __MSL_INLINE enable_if_t<__is_vector<T>, T> max(T x, __element<T> y) { return max(x, T(y)); }  \
  template <class T>                                                                             \
  __MSL_INLINE enable_if_t<__is_vector<T>, T> min(T x, __element<T> y) { return min(x, T(y)); }  \
  template <class T>                                                                             \
  __MSL_INLINE __floating<T> fmax(T x, __as<T> y) { return max(x, T(y)); }                       \
  template <class T>                                                                             \
  __MSL_INLINE __floating<T> fmin(T x, __as<T> y) { return min(x, T(y)); }                       \
  template <class T>                                                                             \
  __MSL_INLINE T max3(T x, T y, T z) { return max(max(x, y), z); }                               \
  template <class T>                                                                             \
  __MSL_INLINE T min3(T x, T y, T z) { return min(min(x, y), z); }                               \
  template <class T>                                                                             \
  __MSL_INLINE T median3(T x, T y, T z) { return max(min(x, y), min(max(x, y), z)); }            \
  template <class T>                                                                             \
  __MSL_INLINE __floating<T> fmax3(T x, __as<T> y, __as<T> z) { return max3(x, y, z); }          \
  template <class T>                                                                             \
  __MSL_INLINE __floating<T> fmin3(T x, __as<T> y, __as<T> z) { return min3(x, y, z); }          \
  template <class T>                                                                             \
  __MSL_INLINE __floating<T> fmedian3(T x, __as<T> y, __as<T> z) { return median3(x, y, z); }    \
  template <class T>                                                                             \
  __MSL_INLINE T clamp(T x, __as<T> low, __as<T> high) { return min(max(x, low), high); }
__MSL_EXTREMA(false)
namespace precise {
__MSL_EXTREMA(true)
}
#undef __MSL_EXTREMA
template <class T>
__MSL_INLINE __floating<T> mix(T x, __as<T> y, __as<T> a) {
  return x + (y - x) * a;
}
template <class T>
__MSL_INLINE __floating<T> smoothstep(T low, __as<T> high, __as<T> x) {
  T t = saturate((x - low) / (high - low));
  return t * t * (T(3) - T(2) * t);
}
template <class T>
__MSL_INLINE constexpr T abs(T x) {
  typedef __element<T> E;
  return __each<T>([](E e) {
    if constexpr (__is_float<E>)
      return E(__builtin_fabsf(float(e)));
    else
      return e < E(0) ? E(-e) : e;
  }, x);
}

template <class T>
__MSL_INLINE __floating<T> sincos(T x, thread T& cosine) {
  cosine = cos(x);
  return sin(x);
}
template <class T>
__MSL_INLINE __floating<T> modf(T x, thread T& whole) {
  whole = trunc(x);
  typedef __element<T> E;
  return __each<T>([](E e, E w) { return __builtin_isinf(float(e)) ? E(0) : E(e - w); }, x, whole);
}
template <class T>
using __ints = conditional_t<__is_vector<T>, vec<int, __is_vector<T> ? __size<T> : 2>, int>;
template <class T>
__MSL_INLINE __floating<T> ldexp(T x, __ints<T> k) {
  typedef __element<T> E;
  return __each<T>([](E e, int n) { return E(__builtin_ldexpf(float(e), n)); }, x, k);
}
template <class T>
__MSL_INLINE __floating<T> frexp(T x, thread __ints<T>& exponent) {
  typedef __element<T> E;
  auto number = [](E e) { int n; return E(__builtin_frexpf(float(e), &n)); };
  auto power = [](E e) { int n; __builtin_frexpf(float(e), &n); return n; };
  exponent = __each<__ints<T>>(power, x);
  return __each<T>(number, x);
}
template <class T>
__MSL_INLINE enable_if_t<__is_floating<T>, __ints<T>> ilogb(T x) {
  return __each<__ints<T>>([](__element<T> e) { return __builtin_ilogbf(float(e)); }, x);
}
/* The neighbour of x towards y, in the numbers of the type. */
template <class T>
__MSL_INLINE __floating<T> nextafter(T x, __as<T> y) {
  typedef __element<T> E;
  typedef conditional_t<sizeof(E) == 4, uint, ushort> Bits;
  return __each<T>([](E from, E to) {
    if (from != from || to != to)
      return E(NAN);
    if (from == to)
      return to;
    Bits bits = __builtin_bit_cast(Bits, from);
    constexpr Bits sign = Bits(Bits(1) << (sizeof(Bits) * 8 - 1));
    if (from == E(0))
      return __builtin_bit_cast(E, Bits(to < E(0) ? sign | 1 : 1));
    bool outwards = (to > from) == (from > E(0));
    return __builtin_bit_cast(E, Bits(outwards ? bits + 1 : bits - 1));
  }, x, y);
}

/* Names that are the same whatever the mode of mathematics. */
#define __MSL_SHARED            \
  using metal::abs;             \
  using metal::ceil;            \
  using metal::copysign;        \
  using metal::fabs;            \
  using metal::fdim;            \
  using metal::floor;           \
  using metal::fma;             \
  using metal::fract;           \
  using metal::frexp;           \
  using metal::ldexp;           \
  using metal::mix;             \
  using metal::modf;            \
  using metal::rint;            \
  using metal::round;           \
  using metal::saturate;        \
  using metal::sign;            \
  using metal::sincos;          \
  using metal::smoothstep;      \
  using metal::step;            \
  using metal::trunc;
namespace fast {
__MSL_SHARED
using metal::clamp;
using metal::fmax;
using metal::fmax3;
using metal::fmedian3;
using metal::fmin;
using metal::fmin3;
using metal::max;
using metal::min;
}
namespace precise {
__MSL_SHARED
}
#undef __MSL_SHARED
#undef __MSL_MATH1
#undef __MSL_MATH2
#undef __MSL_MATH3
#undef __MSL_NEAR
#undef __MSL_OFF
#undef __MSL_WITHIN
} // namespace metal
