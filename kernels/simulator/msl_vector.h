/* Relational and geometric functions, and the packing of vectors into words. */
#pragma once
#include "msl_math.h"

namespace metal {
#define __MSL_TEST(NAME, EXPRESSION)                                        \
  template <class T>                                                        \
  __MSL_INLINE enable_if_t<__is_floating<T>, __truth<T>> NAME(T v) {        \
    return __each<__truth<T>>(                                              \
        [](__element<T> e) {                                                \
          float x = float(e);                                               \
          return bool(EXPRESSION);                                          \
        },                                                                  \
        v);                                                                 \
  }
__MSL_TEST(isnan, x != x)
__MSL_TEST(isinf, __builtin_isinf(x))
__MSL_TEST(isfinite, __builtin_isfinite(x))
__MSL_TEST(signbit, __builtin_signbit(x))
#undef __MSL_TEST
template <class T>
__MSL_INLINE enable_if_t<__is_floating<T>, __truth<T>> isnormal(T v) {
  typedef __element<T> E;
  return __each<__truth<T>>([](E e) {
    float size = __builtin_fabsf(float(e));
    return size >= float(numeric_limits<E>::min()) && size < INFINITY;
  }, v);
}
template <class T>
__MSL_INLINE enable_if_t<__is_floating<T>, __truth<T>> isunordered(T v, __as<T> w) {
  return __each<__truth<T>>([](__element<T> a, __element<T> b) { return a != a || b != b; }, v, w);
}
template <class T>
__MSL_INLINE enable_if_t<__is_floating<T>, __truth<T>> isordered(T v, __as<T> w) {
  return __each<__truth<T>>([](__element<T> a, __element<T> b) { return a == a && b == b; }, v, w);
}

template <class B>
__MSL_INLINE bool any(B b) {
  bool found = false;
  for (int i = 0; i < __size<B>; i++)
    found = found || bool(b[i]);
  return found;
}
template <class B>
__MSL_INLINE bool all(B b) {
  bool held = true;
  for (int i = 0; i < __size<B>; i++)
    held = held && bool(b[i]);
  return held;
}
/* y where the condition holds, else x; of a vector of conditions one for each component. */
template <class T, class B>
__MSL_INLINE T select(T x, __as<T> y, B condition) {
  if constexpr (__is_vector<T>) {
    T result;
    for (int i = 0; i < __size<T>; i++) {
      if constexpr (__is_vector<B>)
        result[i] = condition[i] ? y[i] : x[i];
      else
        result[i] = condition ? y[i] : x[i];
    }
    return result;
  } else {
    return condition ? y : x;
  }
}

template <class T>
using __vector = enable_if_t<__is_vector<T> && __is_floating<T>, T>;
template <class T>
__MSL_INLINE __element<__vector<T>> dot(T x, __as<T> y) {
  __element<T> sum = x[0] * y[0];
  for (int i = 1; i < __size<T>; i++)
    sum += x[i] * y[i];
  return sum;
}
template <class T>
__MSL_INLINE __element<__vector<T>> length_squared(T x) {
  return dot(x, x);
}
template <class T>
__MSL_INLINE __element<__vector<T>> length(T x) {
  return sqrt(dot(x, x));
}
template <class T>
__MSL_INLINE __element<__vector<T>> distance_squared(T x, __as<T> y) {
  return length_squared(x - y);
}
template <class T>
__MSL_INLINE __element<__vector<T>> distance(T x, __as<T> y) {
  return length(x - y);
}
template <class T>
__MSL_INLINE __vector<T> normalize(T x) {
  return x * rsqrt(dot(x, x));
}
template <class T>
__MSL_INLINE __vector<T> cross(T x, __as<T> y) {
  static_assert(__size<T> == 3, "cross is of vectors of 3");
  return x.yzx * y.zxy - x.zxy * y.yzx;
}
template <class T>
__MSL_INLINE __vector<T> reflect(T incident, __as<T> normal) {
  return incident - T(2 * dot(normal, incident)) * normal;
}
template <class T>
__MSL_INLINE __vector<T> faceforward(T normal, __as<T> incident, __as<T> reference) {
  return dot(reference, incident) < 0 ? normal : -normal;
}
template <class T>
__MSL_INLINE __vector<T> refract(T incident, __as<T> normal, __element<T> ratio) {
  typedef __element<T> E;
  E cosine = dot(normal, incident);
  E rest = E(1) - ratio * ratio * (E(1) - cosine * cosine);
  return rest < 0 ? T(0) : T(ratio) * incident - T(ratio * cosine + sqrt(rest)) * normal;
}

/* Normalised numbers: an unsigned one of n bits stands for value / (2^n - 1) in [0, 1], a signed
   one for value / (2^(n-1) - 1) in [-1, 1]. */
template <class T>
__MSL_INLINE T __unpack_unorm(uint bits, uint count) {
  return T(float(bits) / float((1u << count) - 1u));
}
template <class T>
__MSL_INLINE T __unpack_snorm(int bits, uint count) {
  return T(max(float(bits) / float((1 << (count - 1)) - 1), -1.0f));
}
__MSL_INLINE uint __pack_unorm(float x, uint count) {
  return uint(__builtin_rintf(saturate(x) * float((1u << count) - 1u)));
}
__MSL_INLINE uint __pack_snorm(float x, uint count) {
  float near = x != x ? 0.0f : clamp(x, -1.0f, 1.0f);
  int bits = int(__builtin_rintf(near * float((1 << (count - 1)) - 1)));
  return uint(bits) & ((1u << count) - 1u);
}
/* How a display encodes light. */
__MSL_INLINE float __from_srgb(float x) {
  return x <= 0.04045f ? x / 12.92f : __builtin_powf((x + 0.055f) / 1.055f, 2.4f);
}
__MSL_INLINE float __to_srgb(float x) {
  float lit = saturate(x);
  return lit < 0.0031308f ? 12.92f * lit : 1.055f * __builtin_powf(lit, 1.0f / 2.4f) - 0.055f;
}

#define __MSL_PACK(T)                                                                         \
  __MSL_INLINE T##4 unpack_unorm4x8_to_##T(uint x) {                                          \
    return T##4{__unpack_unorm<T>(x & 255u, 8), __unpack_unorm<T>(x >> 8 & 255u, 8),          \
                __unpack_unorm<T>(x >> 16 & 255u, 8), __unpack_unorm<T>(x >> 24, 8)};         \
  }                                                                                           \
  __MSL_INLINE T##4 unpack_snorm4x8_to_##T(uint x) {                                          \
    return T##4{__unpack_snorm<T>(int8_t(x), 8), __unpack_snorm<T>(int8_t(x >> 8), 8),        \
                __unpack_snorm<T>(int8_t(x >> 16), 8), __unpack_snorm<T>(int8_t(x >> 24), 8)}; \
  }                                                                                           \
  __MSL_INLINE T##4 unpack_unorm4x8_srgb_to_##T(uint x) {                                     \
    float4 v = unpack_unorm4x8_to_float(x);                                                   \
    return T##4{T(__from_srgb(v[0])), T(__from_srgb(v[1])), T(__from_srgb(v[2])), T(v[3])};   \
  }                                                                                           \
  __MSL_INLINE T##2 unpack_unorm2x16_to_##T(uint x) {                                         \
    return T##2{__unpack_unorm<T>(x & 65535u, 16), __unpack_unorm<T>(x >> 16, 16)};           \
  }                                                                                           \
  __MSL_INLINE T##2 unpack_snorm2x16_to_##T(uint x) {                                         \
    return T##2{__unpack_snorm<T>(int16_t(x), 16), __unpack_snorm<T>(int16_t(x >> 16), 16)};  \
  }                                                                                           \
  __MSL_INLINE T##4 unpack_unorm10a2_to_##T(uint x) {                                         \
    return T##4{__unpack_unorm<T>(x & 1023u, 10), __unpack_unorm<T>(x >> 10 & 1023u, 10),     \
                __unpack_unorm<T>(x >> 20 & 1023u, 10), __unpack_unorm<T>(x >> 30, 2)};       \
  }                                                                                           \
  __MSL_INLINE T##3 unpack_unorm565_to_##T(ushort x) {                                        \
    return T##3{__unpack_unorm<T>(x >> 11, 5), __unpack_unorm<T>(x >> 5 & 63, 6),             \
                __unpack_unorm<T>(x & 31, 5)};                                                \
  }                                                                                           \
  __MSL_INLINE uint pack_##T##_to_unorm4x8(T##4 v) {                                          \
    return __pack_unorm(float(v[0]), 8) | __pack_unorm(float(v[1]), 8) << 8 |                 \
        __pack_unorm(float(v[2]), 8) << 16 | __pack_unorm(float(v[3]), 8) << 24;              \
  }                                                                                           \
  __MSL_INLINE uint pack_##T##_to_snorm4x8(T##4 v) {                                          \
    return __pack_snorm(float(v[0]), 8) | __pack_snorm(float(v[1]), 8) << 8 |                 \
        __pack_snorm(float(v[2]), 8) << 16 | __pack_snorm(float(v[3]), 8) << 24;              \
  }                                                                                           \
  __MSL_INLINE uint pack_##T##_to_srgb_unorm4x8(T##4 v) {                                     \
    return pack_float_to_unorm4x8(float4{__to_srgb(float(v[0])), __to_srgb(float(v[1])),      \
                                         __to_srgb(float(v[2])), float(v[3])});               \
  }                                                                                           \
  __MSL_INLINE uint pack_##T##_to_unorm2x16(T##2 v) {                                         \
    return __pack_unorm(float(v[0]), 16) | __pack_unorm(float(v[1]), 16) << 16;               \
  }                                                                                           \
  __MSL_INLINE uint pack_##T##_to_snorm2x16(T##2 v) {                                         \
    return __pack_snorm(float(v[0]), 16) | __pack_snorm(float(v[1]), 16) << 16;               \
  }                                                                                           \
  __MSL_INLINE uint pack_##T##_to_unorm10a2(T##4 v) {                                         \
    return __pack_unorm(float(v[0]), 10) | __pack_unorm(float(v[1]), 10) << 10 |              \
        __pack_unorm(float(v[2]), 10) << 20 | __pack_unorm(float(v[3]), 2) << 30;             \
  }                                                                                           \
  __MSL_INLINE ushort pack_##T##_to_unorm565(T##3 v) {                                        \
    return ushort(__pack_unorm(float(v[0]), 5) << 11 | __pack_unorm(float(v[1]), 6) << 5 |    \
                  __pack_unorm(float(v[2]), 5));                                              \
  }
__MSL_PACK(float)
__MSL_PACK(half)
#undef __MSL_PACK
} // namespace metal
