/* Barriers, and the functions of a simdgroup (32 lanes) or a quadgroup (4).

   Each posts its operand and the last lane to arrive computes for all: the functions named
   `__lanes_*`. Reductions follow a fixed tree: Metal documents no order. */
#pragma once
#include "msl_vector.h"

namespace metal {
enum class mem_flags {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8,
  mem_object_data = 16
};
__MSL_INLINE constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return mem_flags(int(a) | int(b));
}
__MSL_INLINE void threadgroup_barrier(mem_flags flags, __MSL_HERE) {
  __msl_tg_barrier(__here.site, uint(flags));
}
__MSL_INLINE void simdgroup_barrier(mem_flags flags, __MSL_HERE) {
  __msl_sg_barrier(__here.site, uint(flags));
}

inline constexpr int __simd_width = 32;
inline constexpr int __quad_width = 4;

#define __MSL_OPERATION(NAME, EXPRESSION)                 \
  struct NAME {                                           \
    template <class T>                                    \
    static __MSL_INLINE T of(T a, T b) {                  \
      return T(EXPRESSION);                               \
    }                                                     \
  };
__MSL_OPERATION(__sum, a + b)
__MSL_OPERATION(__product, a * b)
__MSL_OPERATION(__maximum, metal::max(a, b))
__MSL_OPERATION(__minimum, metal::min(a, b))
__MSL_OPERATION(__conjunction, a & b)
__MSL_OPERATION(__disjunction, a | b)
__MSL_OPERATION(__exclusion, a ^ b)
#undef __MSL_OPERATION

template <class T>
__MSL_INLINE void __check_lane_type() {
  static_assert(sizeof(__element<T>) <= 4 && !is_same_v<__element<T>, bool> &&
                    (__is_integer<T> || __is_floating<T>),
                "a simdgroup or quadgroup takes numbers of 8, 16 or 32 bits, or vectors of them");
}
__MSL_INLINE bool __is_active(uint active, int lane) {
  return (active >> lane) & 1u;
}

template <class T>
struct __exchange {
  T in;
  T out;
};
template <class Slot>
__MSL_INLINE Slot& __slot(void** slots, int lane) {
  return *(Slot*)slots[lane];
}

/* Of each group of `Width` lanes: halves are joined, then quarters, as in a butterfly. */
template <class Operation, class T, int Width>
void __lanes_reduce(void** slots, uint active) {
  typedef __exchange<T> Slot;
  for (int base = 0; base < __simd_width; base += Width) {
    T values[Width];
    bool held[Width];
    for (int i = 0; i < Width; i++) {
      held[i] = __is_active(active, base + i);
      if (held[i])
        values[i] = __slot<Slot>(slots, base + i).in;
    }
    for (int half_width = Width / 2; half_width; half_width /= 2)
      for (int i = 0; i < half_width; i++)
        if (held[i + half_width]) {
          T other = values[i + half_width];
          values[i] = held[i] ? Operation::of(values[i], other) : other;
          held[i] = true;
        }
    for (int i = 0; i < Width; i++)
      if (__is_active(active, base + i))
        __slot<Slot>(slots, base + i).out = values[0];
  }
}
/* Metal has no reductions of bfloat; MLX's preamble makes them of float, rounded at the end. */
template <class T>
struct __lane_sum {
  typedef T type;
};
template <>
struct __lane_sum<bfloat> {
  typedef float type;
};
template <int N>
struct __lane_sum<bfloat __attribute__((ext_vector_type(N)))> {
  typedef vec<float, N> type;
};
template <class To, class From>
__MSL_INLINE To __convert(From x) {
  return __each<To>([](__element<From> e) { return __element<To>(e); }, x);
}
template <class Operation, int Width, class T>
__MSL_INLINE T __reduce(T x, uint counted, uint site) {
  typedef typename __lane_sum<T>::type S;
  __check_lane_type<T>();
  __exchange<S> slot{__convert<S>(x), S()};
  __msl_simd(site, counted, &slot, __lanes_reduce<Operation, S, Width>);
  return __convert<T>(slot.out);
}

template <class Operation, class T, int Width, int Identity, bool Inclusive>
void __lanes_prefix(void** slots, uint active) {
  typedef __exchange<T> Slot;
  T total = T(Identity);
  for (int i = 0; i < __simd_width; i++) {
    if (i % Width == 0)
      total = T(Identity);
    if (!__is_active(active, i))
      continue;
    Slot& slot = __slot<Slot>(slots, i);
    T before = total;
    total = Operation::of(total, slot.in);
    slot.out = Inclusive ? total : before;
  }
}
template <class Operation, int Width, int Identity, bool Inclusive, class T>
__MSL_INLINE T __prefix(T x, uint site) {
  typedef typename __lane_sum<T>::type S;
  __check_lane_type<T>();
  __exchange<S> slot{__convert<S>(x), S()};
  __msl_simd(site, __MSL_OP_PREFIX, &slot,
             __lanes_prefix<Operation, S, Width, Identity, Inclusive>);
  return __convert<T>(slot.out);
}

/* A value that Metal leaves undefined: all bits set, a NaN of any floating type. */
template <class T>
__MSL_INLINE T __undefined() {
  T value;
  __builtin_memset(&value, 0xff, sizeof value);
  return value;
}
enum { __own = -1, __nowhere = -2 };

template <class T>
struct __shuffled {
  T in;
  T filling;
  T out;
  int source; /* a lane, or `__own`, or `__nowhere` */
  bool filled; /* from the filling of that lane */
};
template <class T>
void __lanes_shuffle(void** slots, uint active) {
  typedef __shuffled<T> Slot;
  for (int i = 0; i < __simd_width; i++) {
    if (!__is_active(active, i))
      continue;
    Slot& slot = __slot<Slot>(slots, i);
    if (slot.source == __own)
      slot.out = slot.in;
    else if (slot.source == __nowhere || !__is_active(active, slot.source))
      slot.out = __undefined<T>();
    else if (slot.filled)
      slot.out = __slot<Slot>(slots, slot.source).filling;
    else
      slot.out = __slot<Slot>(slots, slot.source).in;
  }
}
/* Of any type: what Metal allows is checked by the callers. */
template <class T>
__MSL_INLINE T __shuffle(T x, T filling, int source, bool filled, uint site) {
  __shuffled<T> slot{x, filling, x, source, filled};
  __msl_simd(site, __MSL_OP_SHUFFLE, &slot, __lanes_shuffle<T>);
  return slot.out;
}

/* Which lane a function reads from, in groups of `width`. */
__MSL_INLINE int __from_lane(uint index, int width) {
  int base = int(__msl_lane()) / width * width;
  return index < uint(width) ? base + int(index) : int(__nowhere);
}
__MSL_INLINE int __from_xor(uint mask, int width) {
  return __from_lane((__msl_lane() % uint(width)) ^ mask, width);
}
__MSL_INLINE int __from_shift(int shift, int width) {
  int index = int(__msl_lane()) % width + shift;
  return index >= 0 && index < width ? int(__msl_lane()) + shift : int(__own);
}
__MSL_INLINE int __from_rotation(int shift, int width) {
  int index = int(__msl_lane()) % width + shift;
  return int(__msl_lane()) / width * width + ((index % width) + width) % width;
}
template <class T>
__MSL_INLINE T __shuffle_and_fill(T x, T filling, int shift, int width, uint site) {
  int index = int(__msl_lane()) % width + shift;
  bool filled = index < 0 || index >= width;
  return __shuffle(x, filling, __from_rotation(shift, width), filled, site);
}

template <class T>
void __lanes_broadcast_first(void** slots, uint active) {
  typedef __exchange<T> Slot;
  T first = __slot<Slot>(slots, __builtin_ctz(active)).in;
  for (int i = 0; i < __simd_width; i++)
    if (__is_active(active, i))
      __slot<Slot>(slots, i).out = first;
}
template <class T>
void __lanes_quad_broadcast_first(void** slots, uint active) {
  typedef __exchange<T> Slot;
  for (int base = 0; base < __simd_width; base += __quad_width) {
    uint here = active >> base & 15u;
    for (int i = 0; i < __quad_width; i++)
      if (__is_active(here, i))
        __slot<Slot>(slots, base + i).out = __slot<Slot>(slots, base + __builtin_ctz(here)).in;
  }
}

struct __ballot_slot {
  bool in;
  uint out;
};
inline void __lanes_ballot(void** slots, uint active) {
  uint votes = 0;
  for (int i = 0; i < __simd_width; i++)
    if (__is_active(active, i))
      votes |= uint(__slot<__ballot_slot>(slots, i).in) << i;
  for (int i = 0; i < __simd_width; i++)
    if (__is_active(active, i))
      __slot<__ballot_slot>(slots, i).out = votes;
}
__MSL_INLINE uint __ballot(bool vote, uint site) {
  __ballot_slot slot{vote, 0};
  __msl_simd(site, __MSL_OP_BALLOT, &slot, __lanes_ballot);
  return slot.out;
}
__MSL_INLINE uint __quad_ballot(bool vote, uint site) {
  return __ballot(vote, site) >> (__msl_lane() / 4u * 4u) & 15u;
}

template <class T, uint Full>
struct __vote {
  typedef T vote_t;
  T bits;
  explicit constexpr __vote(T votes = 0) : bits(votes) {}
  explicit constexpr operator T() const {
    return bits;
  }
  constexpr bool any() const {
    return bits != 0;
  }
  constexpr bool all() const {
    return bits == T(Full);
  }
};
typedef __vote<ulong, 0xffffffffu> simd_vote;
typedef __vote<ushort, 15u> quad_vote;

/* The functions that simdgroups and quadgroups have alike. */
#define __MSL_REDUCTION(NAME, WIDTH, COUNTED, OPERATION)              \
  template <class T>                                                  \
  __MSL_INLINE T NAME(T data, __MSL_HERE) {                           \
    return __reduce<OPERATION, WIDTH>(data, COUNTED, __here.site);    \
  }
#define __MSL_PREFIX(NAME, WIDTH, OPERATION, IDENTITY, INCLUSIVE)                   \
  template <class T>                                                                \
  __MSL_INLINE T NAME(T data, __MSL_HERE) {                                         \
    return __prefix<OPERATION, WIDTH, IDENTITY, INCLUSIVE>(data, __here.site);      \
  }
#define __MSL_SHUFFLE(NAME, SOURCE)                                   \
  template <class T>                                                  \
  __MSL_INLINE T NAME(T data, ushort number, __MSL_HERE) {            \
    __check_lane_type<T>();                                           \
    return __shuffle(data, data, SOURCE, false, __here.site);         \
  }
#define __MSL_FILL(NAME, WIDTH, SHIFT)                                                    \
  template <class T>                                                                      \
  __MSL_INLINE T NAME(T data, __as<T> filling, ushort delta, __MSL_HERE) {                \
    __check_lane_type<T>();                                                               \
    return __shuffle_and_fill(data, filling, SHIFT, WIDTH, __here.site);                  \
  }                                                                                       \
  template <class T>                                                                      \
  __MSL_INLINE T NAME(T data, __as<T> filling, ushort delta, ushort modulo, __MSL_HERE) { \
    __check_lane_type<T>();                                                               \
    return __shuffle_and_fill(data, filling, SHIFT, int(modulo), __here.site);            \
  }
#define __MSL_GROUP(GROUP, WIDTH, SUM, PRODUCT, MAX, MIN, AND, OR, XOR)                   \
  __MSL_REDUCTION(GROUP##_sum, WIDTH, SUM, __sum)                                         \
  __MSL_REDUCTION(GROUP##_product, WIDTH, PRODUCT, __product)                             \
  __MSL_REDUCTION(GROUP##_max, WIDTH, MAX, __maximum)                                     \
  __MSL_REDUCTION(GROUP##_min, WIDTH, MIN, __minimum)                                     \
  __MSL_REDUCTION(GROUP##_and, WIDTH, AND, __conjunction)                                 \
  __MSL_REDUCTION(GROUP##_or, WIDTH, OR, __disjunction)                                   \
  __MSL_REDUCTION(GROUP##_xor, WIDTH, XOR, __exclusion)                                   \
  __MSL_PREFIX(GROUP##_prefix_inclusive_sum, WIDTH, __sum, 0, true)                       \
  __MSL_PREFIX(GROUP##_prefix_exclusive_sum, WIDTH, __sum, 0, false)                      \
  __MSL_PREFIX(GROUP##_prefix_inclusive_product, WIDTH, __product, 1, true)               \
  __MSL_PREFIX(GROUP##_prefix_exclusive_product, WIDTH, __product, 1, false)              \
  __MSL_SHUFFLE(GROUP##_shuffle, __from_lane(number, WIDTH))                              \
  __MSL_SHUFFLE(GROUP##_broadcast, __from_lane(number, WIDTH))                            \
  __MSL_SHUFFLE(GROUP##_shuffle_xor, __from_xor(number, WIDTH))                           \
  __MSL_SHUFFLE(GROUP##_shuffle_up, __from_shift(-int(number), WIDTH))                    \
  __MSL_SHUFFLE(GROUP##_shuffle_down, __from_shift(int(number), WIDTH))                   \
  __MSL_SHUFFLE(GROUP##_shuffle_rotate_up, __from_rotation(-int(number), WIDTH))          \
  __MSL_SHUFFLE(GROUP##_shuffle_rotate_down, __from_rotation(int(number), WIDTH))         \
  __MSL_FILL(GROUP##_shuffle_and_fill_up, WIDTH, -int(delta))                             \
  __MSL_FILL(GROUP##_shuffle_and_fill_down, WIDTH, int(delta))
__MSL_GROUP(simd, __simd_width, __MSL_OP_SUM, __MSL_OP_PRODUCT, __MSL_OP_MAX, __MSL_OP_MIN,
            __MSL_OP_AND, __MSL_OP_OR, __MSL_OP_XOR)
__MSL_GROUP(quad, __quad_width, __MSL_OP_QUAD, __MSL_OP_QUAD, __MSL_OP_QUAD, __MSL_OP_QUAD,
            __MSL_OP_QUAD, __MSL_OP_QUAD, __MSL_OP_QUAD)
#undef __MSL_REDUCTION
#undef __MSL_PREFIX
#undef __MSL_SHUFFLE
#undef __MSL_FILL
#undef __MSL_GROUP

template <class T>
__MSL_INLINE T simd_broadcast_first(T data, __MSL_HERE) {
  __check_lane_type<T>();
  __exchange<T> slot{data, data};
  __msl_simd(__here.site, __MSL_OP_SHUFFLE, &slot, __lanes_broadcast_first<T>);
  return slot.out;
}
template <class T>
__MSL_INLINE T quad_broadcast_first(T data, __MSL_HERE) {
  __check_lane_type<T>();
  __exchange<T> slot{data, data};
  __msl_simd(__here.site, __MSL_OP_QUAD, &slot, __lanes_quad_broadcast_first<T>);
  return slot.out;
}
__MSL_INLINE simd_vote simd_ballot(bool vote, __MSL_HERE) {
  return simd_vote(__ballot(vote, __here.site));
}
__MSL_INLINE simd_vote simd_active_threads_mask(__MSL_HERE) {
  return simd_vote(__ballot(true, __here.site));
}
__MSL_INLINE bool simd_any(bool vote, __MSL_HERE) {
  return __ballot(vote, __here.site) != 0;
}
__MSL_INLINE bool simd_all(bool vote, __MSL_HERE) {
  return __ballot(!vote, __here.site) == 0;
}
__MSL_INLINE bool simd_is_first(__MSL_HERE) {
  return uint(__builtin_ctz(__ballot(true, __here.site))) == __msl_lane();
}
__MSL_INLINE bool simd_is_helper_thread() {
  return false;
}
__MSL_INLINE quad_vote quad_ballot(bool vote, __MSL_HERE) {
  return quad_vote(ushort(__quad_ballot(vote, __here.site)));
}
__MSL_INLINE quad_vote quad_active_threads_mask(__MSL_HERE) {
  return quad_vote(ushort(__quad_ballot(true, __here.site)));
}
__MSL_INLINE bool quad_any(bool vote, __MSL_HERE) {
  return __quad_ballot(vote, __here.site) != 0;
}
__MSL_INLINE bool quad_all(bool vote, __MSL_HERE) {
  return __quad_ballot(!vote, __here.site) == 0;
}
__MSL_INLINE bool quad_is_first(__MSL_HERE) {
  return uint(__builtin_ctz(__quad_ballot(true, __here.site))) == __msl_lane() % 4u;
}
__MSL_INLINE bool quad_is_helper_thread() {
  return false;
}
} // namespace metal
