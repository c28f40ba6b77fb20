/* Atomics: the executor runs one thread at a time, so that each is a plain access, but reported to
   it, which counts them and checks bounds and races. Metal has relaxed order only. */
#pragma once
#include "msl_traits.h"

namespace metal {
enum memory_order { memory_order_relaxed = 0 };

template <class T>
struct atomic {
  static_assert(is_same_v<T, int> || is_same_v<T, uint> || is_same_v<T, bool> ||
                    is_same_v<T, float> || is_same_v<T, ulong>,
                "Metal's atomics are of int, uint, bool, float and ulong");
  T __value;
};
template <class T>
using _atomic = atomic<T>;
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<ulong> atomic_ulong;

/* The `space` of __msl_atomic: an address space, plus how it is accessed, times 256. */
enum { __atomic_device = 1, __atomic_threadgroup = 3 };
enum { __atomic_load = 0, __atomic_store = 256, __atomic_update = 512 };

template <class T>
inline constexpr bool __is_word = is_same_v<T, int> || is_same_v<T, uint>;

#define __MSL_LINE uint line = __builtin_LINE()
#define __MSL_FETCH(SPACE, NAME, ALLOWED, EXPRESSION)                                   \
  template <class T>                                                                    \
  __MSL_INLINE T atomic_fetch_##NAME##_explicit(volatile SPACE atomic<T>* object, __as<T> y, \
                                                memory_order, __MSL_LINE) {             \
    static_assert(ALLOWED, "Metal has no such atomic operation on this type");          \
    T* place = __reach(object, __atomic_update, line);                                  \
    T x = *place;                                                                       \
    *place = T(EXPRESSION);                                                             \
    return x;                                                                           \
  }
#define __MSL_EXTREME(SPACE, NAME, EXPRESSION)                                            \
  __MSL_INLINE void atomic_##NAME##_explicit(volatile SPACE atomic<ulong>* object, ulong y, \
                                             memory_order, __MSL_LINE) {                  \
    ulong* place = __reach(object, __atomic_update, line);                                \
    ulong x = *place;                                                                     \
    *place = EXPRESSION;                                                                  \
  }
#define __MSL_ATOMICS(SPACE, NUMBER)                                                       \
  template <class T>                                                                       \
  __MSL_INLINE T* __reach(const volatile SPACE atomic<T>* object, uint access, uint line) { \
    T* place = (T*)(ulong)&object->__value;                                                \
    __msl_atomic(place, sizeof(T), line, NUMBER | access);                                 \
    return place;                                                                          \
  }                                                                                        \
  template <class T>                                                                       \
  __MSL_INLINE T atomic_load_explicit(const volatile SPACE atomic<T>* object, memory_order, \
                                      __MSL_LINE) {                                        \
    return *__reach(object, __atomic_load, line);                                          \
  }                                                                                        \
  template <class T>                                                                       \
  __MSL_INLINE void atomic_store_explicit(volatile SPACE atomic<T>* object, __as<T> y,     \
                                          memory_order, __MSL_LINE) {                      \
    *__reach(object, __atomic_store, line) = y;                                            \
  }                                                                                        \
  template <class T>                                                                       \
  __MSL_INLINE T atomic_exchange_explicit(volatile SPACE atomic<T>* object, __as<T> y,     \
                                          memory_order, __MSL_LINE) {                      \
    T* place = __reach(object, __atomic_update, line);                                     \
    T x = *place;                                                                          \
    *place = y;                                                                            \
    return x;                                                                              \
  }                                                                                        \
  template <class T>                                                                       \
  __MSL_INLINE bool atomic_compare_exchange_weak_explicit(                                 \
      volatile SPACE atomic<T>* object, thread T* expected, __as<T> y, memory_order,       \
      memory_order, __MSL_LINE) {                                                          \
    T* place = __reach(object, __atomic_update, line);                                     \
    if (__builtin_memcmp(place, expected, sizeof(T)) == 0) {                               \
      *place = y;                                                                          \
      return true;                                                                         \
    }                                                                                      \
    *expected = *place;                                                                    \
    return false;                                                                          \
  }                                                                                        \
  __MSL_FETCH(SPACE, add, __is_word<T> || __is_float<T>, x + y)                            \
  __MSL_FETCH(SPACE, sub, __is_word<T> || __is_float<T>, x - y)                            \
  __MSL_FETCH(SPACE, max, __is_word<T>, x < y ? y : x)                                     \
  __MSL_FETCH(SPACE, min, __is_word<T>, y < x ? y : x)                                     \
  __MSL_FETCH(SPACE, and, __is_word<T>, x & y)                                             \
  __MSL_FETCH(SPACE, or, __is_word<T>, x | y)                                              \
  __MSL_FETCH(SPACE, xor, __is_word<T>, x ^ y)                                             \
  __MSL_EXTREME(SPACE, max, x < y ? y : x)                                                 \
  __MSL_EXTREME(SPACE, min, y < x ? y : x)
__MSL_ATOMICS(device, __atomic_device)
__MSL_ATOMICS(threadgroup, __atomic_threadgroup)
#undef __MSL_ATOMICS
#undef __MSL_EXTREME
#undef __MSL_FETCH
#undef __MSL_LINE
} // namespace metal
