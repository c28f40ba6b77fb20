/* Functions of integers, of every width, for numbers and vectors. */
#pragma once
#include "msl_math.h"

namespace metal {
template <class T>
using __integer = enable_if_t<__is_integer<T>, T>;
/* The unsigned type of one width, component by component. */
template <class T>
struct __unsigned_like {
  typedef __unsigned_of<T> type;
};
template <class T, int N>
struct __unsigned_like<T __attribute__((ext_vector_type(N)))> {
  typedef vec<__unsigned_of<T>, N> type;
};
template <class E>
inline constexpr int __bits = int(sizeof(E)) * 8;

#define __MSL_INTEGER1(NAME, EXPRESSION)             \
  template <class T>                                 \
  __MSL_INLINE __integer<T> NAME(T v) {              \
    typedef __element<T> E;                          \
    typedef __unsigned_of<E> U;                      \
    return __each<T>([](E x) { U u = U(x); return E(EXPRESSION); }, v); \
  }
#define __MSL_INTEGER2(NAME, EXPRESSION)             \
  template <class T>                                 \
  __MSL_INLINE __integer<T> NAME(T v, __as<T> w) {   \
    typedef __element<T> E;                          \
    typedef __unsigned_of<E> U;                      \
    return __each<T>([](E x, E y) { U u = U(x); (void)u; return E(EXPRESSION); }, v, w); \
  }

/* Twice as wide as E, where that is more than a long. */
typedef __int128 __msl_int128;
typedef unsigned __int128 __msl_uint128;
template <class E>
using __twice = conditional_t<
    __is_unsigned(E), conditional_t<sizeof(E) == 8, __msl_uint128, ulong>,
    conditional_t<sizeof(E) == 8, __msl_int128, long>>;

template <class E>
__MSL_INLINE E __saturate(__msl_int128 x) {
  __msl_int128 low = numeric_limits<E>::lowest();
  __msl_int128 high = numeric_limits<E>::max();
  return E(x < low ? low : x > high ? high : x);
}
template <class E>
__MSL_INLINE E __reverse(E x) {
  ulong bits = __builtin_bitreverse64(ulong(__unsigned_of<E>(x)));
  return E(bits >> (64 - __bits<E>));
}
template <class E>
__MSL_INLINE E __rotate(E x, E count) {
  typedef __unsigned_of<E> U;
  U u = U(x);
  uint left = uint(count) % uint(__bits<E>);
  return left ? E(U(u << left) | U(u >> (uint(__bits<E>) - left))) : x;
}

__MSL_INTEGER1(popcount, __builtin_popcountl(u))
__MSL_INTEGER1(clz, u ? __builtin_clzl(ulong(u)) - (64 - __bits<E>) : __bits<E>)
__MSL_INTEGER1(ctz, u ? __builtin_ctzl(ulong(u)) : __bits<E>)
__MSL_INTEGER1(reverse_bits, __reverse<E>(x))
__MSL_INTEGER2(rotate, __rotate<E>(x, y))
__MSL_INTEGER2(addsat, __saturate<E>(__msl_int128(x) + __msl_int128(y)))
__MSL_INTEGER2(subsat, __saturate<E>(__msl_int128(x) - __msl_int128(y)))
__MSL_INTEGER2(hadd, (__msl_int128(x) + __msl_int128(y)) >> 1)
__MSL_INTEGER2(rhadd, (__msl_int128(x) + __msl_int128(y) + 1) >> 1)
__MSL_INTEGER2(mulhi, (__twice<E>(x) * __twice<E>(y)) >> __bits<E>)
#undef __MSL_INTEGER1
#undef __MSL_INTEGER2

template <class T>
__MSL_INLINE __integer<T> madhi(T x, __as<T> y, __as<T> z) {
  return mulhi(x, y) + z;
}
template <class T>
__MSL_INLINE __integer<T> madsat(T v, __as<T> w, __as<T> u) {
  typedef __element<T> E;
  return __each<T>([](E x, E y, E z) {
    if constexpr (sizeof(E) < 8 || !__is_unsigned(E)) {
      return __saturate<E>(__msl_int128(x) * __msl_int128(y) + __msl_int128(z));
    } else {
      __msl_uint128 wide = __msl_uint128(x) * y + z;
      return wide > ~E(0) ? ~E(0) : E(wide);
    }
  }, v, w, u);
}
/* The products of the lower 24 bits. */
template <class T>
__MSL_INLINE __integer<T> mul24(T v, __as<T> w) {
  typedef __element<T> E;
  static_assert(sizeof(E) == 4, "mul24 is of int and uint");
  auto low = [](E x) { return E(E(uint(x) << 8) >> 8); };
  return __each<T>([=](E x, E y) { return E(low(x) * low(y)); }, v, w);
}
template <class T>
__MSL_INLINE __integer<T> mad24(T x, __as<T> y, __as<T> z) {
  return mul24(x, y) + z;
}
template <class T>
__MSL_INLINE typename __unsigned_like<__integer<T>>::type absdiff(T v, __as<T> w) {
  typedef __element<T> E;
  typedef __unsigned_of<E> U;
  return __each<typename __unsigned_like<T>::type>(
      [](E x, E y) { return x < y ? U(U(y) - U(x)) : U(U(x) - U(y)); }, v, w);
}
/* `count` bits from `offset` up; of a signed type the highest of them is the sign. */
template <class T>
__MSL_INLINE __integer<T> extract_bits(T v, uint offset, uint count) {
  typedef __element<T> E;
  typedef __unsigned_of<E> U;
  T result = v;
  auto one = [=](E x) {
    if (count == 0)
      return E(0);
    U high = U(U(x) << (uint(__bits<E>) - offset - count));
    return E(E(high) >> (uint(__bits<E>) - count));
  };
  if constexpr (__is_vector<T>)
    for (int i = 0; i < __size<T>; i++)
      result[i] = one(v[i]);
  else
    result = one(v);
  return result;
}
/* `base` with `count` of its bits, from `offset` up, replaced by the lowest of `inserted`. */
template <class T>
__MSL_INLINE __integer<T> insert_bits(T base, __as<T> inserted, uint offset, uint count) {
  typedef __element<T> E;
  typedef __unsigned_of<E> U;
  if (count == 0)
    return base;
  U mask = U(U(U(~U(0)) >> (uint(__bits<E>) - count)) << offset);
  auto one = [=](E x, E y) { return E(U(U(x) & U(~mask)) | U(U(U(y) << offset) & mask)); };
  T result = base;
  if constexpr (__is_vector<T>)
    for (int i = 0; i < __size<T>; i++)
      result[i] = one(base[i], inserted[i]);
  else
    result = one(base, inserted);
  return result;
}
} // namespace metal
