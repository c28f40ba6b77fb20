/* Floating-point functions: computed in float, rounded once to the type; relational functions.

   libm is closer to exact than a GPU: `fast::` is as good as `precise::` here. */
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

/* The functions that exist thrice: metal::, metal::fast:: and metal::precise::. */
#define __MSL_TRANSCENDENTAL                                              \
  __MSL_MATH1(exp, __builtin_expf(x))                                     \
  __MSL_MATH1(exp2, __builtin_exp2f(x))                                   \
  __MSL_MATH1(exp10, float(__builtin_pow(__msl_wide(10), __msl_wide(x)))) \
  __MSL_MATH1(log, __builtin_logf(x))                                     \
  __MSL_MATH1(log2, __builtin_log2f(x))                                   \
  __MSL_MATH1(log10, __builtin_log10f(x))                                 \
  __MSL_MATH1(sqrt, __builtin_sqrtf(x))                                   \
  __MSL_MATH1(rsqrt, float(1 / __builtin_sqrt(__msl_wide(x))))            \
  __MSL_MATH1(sin, __builtin_sinf(x))                                     \
  __MSL_MATH1(cos, __builtin_cosf(x))                                     \
  __MSL_MATH1(tan, __builtin_tanf(x))                                     \
  __MSL_MATH1(sinh, __builtin_sinhf(x))                                   \
  __MSL_MATH1(cosh, __builtin_coshf(x))                                   \
  __MSL_MATH1(tanh, __builtin_tanhf(x))                                   \
  __MSL_MATH1(asin, __builtin_asinf(x))                                   \
  __MSL_MATH1(acos, __builtin_acosf(x))                                   \
  __MSL_MATH1(atan, __builtin_atanf(x))                                   \
  __MSL_MATH1(asinh, __builtin_asinhf(x))                                 \
  __MSL_MATH1(acosh, __builtin_acoshf(x))                                 \
  __MSL_MATH1(atanh, __builtin_atanhf(x))                                 \
  __MSL_MATH1(sinpi, __sinpi(x))                                          \
  __MSL_MATH1(cospi, __cospi(x))                                          \
  __MSL_MATH1(tanpi, __sinpi(x) / __cospi(x))                             \
  __MSL_MATH2(pow, __builtin_powf(x, y))                                  \
  __MSL_MATH2(powr, x < 0.0f ? NAN : __builtin_powf(x, y))                \
  __MSL_MATH2(atan2, __builtin_atan2f(x, y))                              \
  __MSL_MATH2(fmod, __builtin_fmodf(x, y))                                \
  __MSL_MATH2(divide, x / y)
__MSL_TRANSCENDENTAL
namespace fast {
__MSL_TRANSCENDENTAL
}
namespace precise {
__MSL_TRANSCENDENTAL
}
#undef __MSL_TRANSCENDENTAL

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

/* Of a number and a NaN, Metal's max and min give the number. */
template <class E>
__MSL_INLINE constexpr E __greater(E a, E b) {
  if constexpr (__is_float<E>)
    return a != a ? b : b != b ? a : a < b ? b : a;
  else
    return a < b ? b : a;
}
template <class E>
__MSL_INLINE constexpr E __lesser(E a, E b) {
  if constexpr (__is_float<E>)
    return a != a ? b : b != b ? a : b < a ? b : a;
  else
    return b < a ? b : a;
}
template <class T>
__MSL_INLINE constexpr T max(T x, T y) {
  typedef __element<T> E;
  return __each<T>([](E a, E b) { return __greater<E>(a, b); }, x, y);
}
template <class T>
__MSL_INLINE constexpr T min(T x, T y) {
  typedef __element<T> E;
  return __each<T>([](E a, E b) { return __lesser<E>(a, b); }, x, y);
}
/* A vector and one number for all its components. */
template <class T>
__MSL_INLINE enable_if_t<__is_vector<T>, T> max(T x, __element<T> y) {
  return max(x, T(y));
}
template <class T>
__MSL_INLINE enable_if_t<__is_vector<T>, T> min(T x, __element<T> y) {
  return min(x, T(y));
}
template <class T>
__MSL_INLINE __floating<T> fmax(T x, __as<T> y) {
  return max(x, T(y));
}
template <class T>
__MSL_INLINE __floating<T> fmin(T x, __as<T> y) {
  return min(x, T(y));
}
template <class T>
__MSL_INLINE T max3(T x, T y, T z) {
  return max(max(x, y), z);
}
template <class T>
__MSL_INLINE T min3(T x, T y, T z) {
  return min(min(x, y), z);
}
template <class T>
__MSL_INLINE T median3(T x, T y, T z) {
  return max(min(x, y), min(max(x, y), z));
}
template <class T>
__MSL_INLINE __floating<T> fmax3(T x, __as<T> y, __as<T> z) {
  return max3(x, y, z);
}
template <class T>
__MSL_INLINE __floating<T> fmin3(T x, __as<T> y, __as<T> z) {
  return min3(x, y, z);
}
template <class T>
__MSL_INLINE __floating<T> fmedian3(T x, __as<T> y, __as<T> z) {
  return median3(x, y, z);
}
template <class T>
__MSL_INLINE T clamp(T x, __as<T> low, __as<T> high) {
  return min(max(x, low), high);
}
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
  using metal::clamp;           \
  using metal::copysign;        \
  using metal::fabs;            \
  using metal::fdim;            \
  using metal::floor;           \
  using metal::fma;             \
  using metal::fmax;            \
  using metal::fmax3;           \
  using metal::fmedian3;        \
  using metal::fmin;            \
  using metal::fmin3;           \
  using metal::fract;           \
  using metal::frexp;           \
  using metal::ldexp;           \
  using metal::max;             \
  using metal::min;             \
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
}
namespace precise {
__MSL_SHARED
}
#undef __MSL_SHARED
#undef __MSL_MATH1
#undef __MSL_MATH2
#undef __MSL_MATH3
} // namespace metal
