/* Vector types, their construction, the packed types, and as_type. */
#pragma once
#include "msl_runtime.h"

namespace metal {
template <class T, int N>
using vec = T __attribute__((ext_vector_type(N)));
} // namespace metal

#define __MSL_VECTORS(T)                            \
  typedef T T##2 __attribute__((ext_vector_type(2))); \
  typedef T T##3 __attribute__((ext_vector_type(3))); \
  typedef T T##4 __attribute__((ext_vector_type(4)));
__MSL_VECTORS(bool)
__MSL_VECTORS(char)
__MSL_VECTORS(uchar)
__MSL_VECTORS(short)
__MSL_VECTORS(ushort)
__MSL_VECTORS(int)
__MSL_VECTORS(uint)
__MSL_VECTORS(long)
__MSL_VECTORS(ulong)
__MSL_VECTORS(half)
__MSL_VECTORS(bfloat)
__MSL_VECTORS(float)
#undef __MSL_VECTORS

namespace metal {
using ::bfloat;
using ::half;

template <class T>
struct __vector_of {
  typedef T element;
  static constexpr int size = 1;
  static constexpr bool is_vector = false;
};
template <class T, int N>
struct __vector_of<T __attribute__((ext_vector_type(N)))> {
  typedef T element;
  static constexpr int size = N;
  static constexpr bool is_vector = true;
};
template <class T>
using __element = typename __vector_of<T>::element;
template <class T>
inline constexpr int __size = __vector_of<T>::size;
template <class T>
inline constexpr bool __is_vector = __vector_of<T>::is_vector;
template <class T>
struct __same {
  typedef T type;
};
/* A parameter that takes no part in deduction: it converts to what the others say. */
template <class T>
using __as = typename __same<T>::type;

/* A vector of three as three numbers, aligned like one. Those of two and four are true vectors of
   low alignment (below), so that swizzles work on them. */
template <class T>
struct __packed3 {
  T x, y, z;
  __packed3() = default;
  constexpr __packed3(T v) : x(v), y(v), z(v) {}
  constexpr __packed3(T a, T b, T c) : x(a), y(b), z(c) {}
  constexpr __packed3(vec<T, 3> v) : x(v[0]), y(v[1]), z(v[2]) {}
  constexpr operator vec<T, 3>() const {
    return vec<T, 3>{x, y, z};
  }
  __MSL_INLINE T operator[](int i) const {
    return i == 0 ? x : i == 1 ? y : z;
  }
};
template <class T>
struct __vector_of<__packed3<T>> {
  typedef T element;
  static constexpr int size = 3;
  static constexpr bool is_vector = true;
};

#define __MSL_PACKED3_OPERATOR(OP)                                             \
  template <class T>                                                           \
  constexpr vec<T, 3> operator OP(__packed3<T> a, __packed3<T> b) {            \
    return vec<T, 3>(a) OP vec<T, 3>(b);                                       \
  }                                                                            \
  template <class T>                                                           \
  constexpr vec<T, 3> operator OP(__packed3<T> a, __as<vec<T, 3>> b) {         \
    return vec<T, 3>(a) OP b;                                                  \
  }                                                                            \
  template <class T>                                                           \
  constexpr vec<T, 3> operator OP(__as<vec<T, 3>> a, __packed3<T> b) {         \
    return a OP vec<T, 3>(b);                                                  \
  }
__MSL_PACKED3_OPERATOR(+)
__MSL_PACKED3_OPERATOR(-)
__MSL_PACKED3_OPERATOR(*)
__MSL_PACKED3_OPERATOR(/)
#undef __MSL_PACKED3_OPERATOR

template <class To, class From>
__MSL_INLINE constexpr int __put(To& to, int at, const From& from) {
  if constexpr (__is_vector<From>) {
    for (int i = 0; i < __size<From>; i++)
      to[at + i] = static_cast<__element<To>>(from[i]);
    return at + __size<From>;
  } else {
    to[at] = static_cast<__element<To>>(from);
    return at + 1;
  }
}

/* float4(a, b.xy, c): the components of all parts in order; a single number fills all of them. */
template <class V, class... Parts>
__MSL_INLINE constexpr V __mk(Parts... parts) {
  if constexpr (sizeof...(Parts) == 1 && (!__is_vector<Parts> && ...)) {
    return V((static_cast<__element<V>>(parts), ...));
  } else {
    constexpr int given = (0 + ... + __size<Parts>);
    static_assert(given == __size<V> || given == 0, "a vector of a wrong number of components");
    V made = {};
    int at = 0;
    ((at = __put(made, at, parts)), ...);
    return made;
  }
}

template <class To, class From>
__MSL_INLINE constexpr To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type is between types of one size");
  return __builtin_bit_cast(To, from);
}
} // namespace metal
using metal::as_type; /* Metal's as_type is global */

#define __MSL_PACKED(T)                                                            \
  typedef T packed_##T##2 __attribute__((ext_vector_type(2), aligned(__alignof__(T)))); \
  typedef metal::__packed3<T> packed_##T##3;                                       \
  typedef T packed_##T##4 __attribute__((ext_vector_type(4), aligned(__alignof__(T))));
__MSL_PACKED(char)
__MSL_PACKED(uchar)
__MSL_PACKED(short)
__MSL_PACKED(ushort)
__MSL_PACKED(int)
__MSL_PACKED(uint)
__MSL_PACKED(long)
__MSL_PACKED(ulong)
__MSL_PACKED(half)
__MSL_PACKED(bfloat)
__MSL_PACKED(float)
#undef __MSL_PACKED

/* `float4(` constructs, `float4` alone stays the type: a function-like macro needs the parenthesis.
   Constructors of `vec<T, N>` are rewritten in the source. */
#define bool2(...) metal::__mk<bool2>(__VA_ARGS__)
#define bool3(...) metal::__mk<bool3>(__VA_ARGS__)
#define bool4(...) metal::__mk<bool4>(__VA_ARGS__)
#define char2(...) metal::__mk<char2>(__VA_ARGS__)
#define char3(...) metal::__mk<char3>(__VA_ARGS__)
#define char4(...) metal::__mk<char4>(__VA_ARGS__)
#define uchar2(...) metal::__mk<uchar2>(__VA_ARGS__)
#define uchar3(...) metal::__mk<uchar3>(__VA_ARGS__)
#define uchar4(...) metal::__mk<uchar4>(__VA_ARGS__)
#define short2(...) metal::__mk<short2>(__VA_ARGS__)
#define short3(...) metal::__mk<short3>(__VA_ARGS__)
#define short4(...) metal::__mk<short4>(__VA_ARGS__)
#define ushort2(...) metal::__mk<ushort2>(__VA_ARGS__)
#define ushort3(...) metal::__mk<ushort3>(__VA_ARGS__)
#define ushort4(...) metal::__mk<ushort4>(__VA_ARGS__)
#define int2(...) metal::__mk<int2>(__VA_ARGS__)
#define int3(...) metal::__mk<int3>(__VA_ARGS__)
#define int4(...) metal::__mk<int4>(__VA_ARGS__)
#define uint2(...) metal::__mk<uint2>(__VA_ARGS__)
#define uint3(...) metal::__mk<uint3>(__VA_ARGS__)
#define uint4(...) metal::__mk<uint4>(__VA_ARGS__)
#define long2(...) metal::__mk<long2>(__VA_ARGS__)
#define long3(...) metal::__mk<long3>(__VA_ARGS__)
#define long4(...) metal::__mk<long4>(__VA_ARGS__)
#define ulong2(...) metal::__mk<ulong2>(__VA_ARGS__)
#define ulong3(...) metal::__mk<ulong3>(__VA_ARGS__)
#define ulong4(...) metal::__mk<ulong4>(__VA_ARGS__)
#define half2(...) metal::__mk<half2>(__VA_ARGS__)
#define half3(...) metal::__mk<half3>(__VA_ARGS__)
#define half4(...) metal::__mk<half4>(__VA_ARGS__)
#define bfloat2(...) metal::__mk<bfloat2>(__VA_ARGS__)
#define bfloat3(...) metal::__mk<bfloat3>(__VA_ARGS__)
#define bfloat4(...) metal::__mk<bfloat4>(__VA_ARGS__)
#define float2(...) metal::__mk<float2>(__VA_ARGS__)
#define float3(...) metal::__mk<float3>(__VA_ARGS__)
#define float4(...) metal::__mk<float4>(__VA_ARGS__)
#define packed_char2(...) metal::__mk<char2>(__VA_ARGS__)
#define packed_char4(...) metal::__mk<char4>(__VA_ARGS__)
#define packed_uchar2(...) metal::__mk<uchar2>(__VA_ARGS__)
#define packed_uchar4(...) metal::__mk<uchar4>(__VA_ARGS__)
#define packed_short2(...) metal::__mk<short2>(__VA_ARGS__)
#define packed_short4(...) metal::__mk<short4>(__VA_ARGS__)
#define packed_ushort2(...) metal::__mk<ushort2>(__VA_ARGS__)
#define packed_ushort4(...) metal::__mk<ushort4>(__VA_ARGS__)
#define packed_int2(...) metal::__mk<int2>(__VA_ARGS__)
#define packed_int4(...) metal::__mk<int4>(__VA_ARGS__)
#define packed_uint2(...) metal::__mk<uint2>(__VA_ARGS__)
#define packed_uint4(...) metal::__mk<uint4>(__VA_ARGS__)
#define packed_long2(...) metal::__mk<long2>(__VA_ARGS__)
#define packed_long4(...) metal::__mk<long4>(__VA_ARGS__)
#define packed_ulong2(...) metal::__mk<ulong2>(__VA_ARGS__)
#define packed_ulong4(...) metal::__mk<ulong4>(__VA_ARGS__)
#define packed_half2(...) metal::__mk<half2>(__VA_ARGS__)
#define packed_half4(...) metal::__mk<half4>(__VA_ARGS__)
#define packed_bfloat2(...) metal::__mk<bfloat2>(__VA_ARGS__)
#define packed_bfloat4(...) metal::__mk<bfloat4>(__VA_ARGS__)
#define packed_float2(...) metal::__mk<float2>(__VA_ARGS__)
#define packed_float4(...) metal::__mk<float4>(__VA_ARGS__)
