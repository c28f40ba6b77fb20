/* Stands for what MLX puts before a custom kernel (metal::utils()): its names, our own code. */
#pragma once
#include "msl_complex.h"
#include "msl_stdlib.h"

using namespace metal;

typedef half float16_t;
typedef bfloat bfloat16_t;

inline uint16_t bfloat16_to_uint16(const bfloat16_t x) {
  return as_type<uint16_t>(x);
}
inline bfloat16_t uint16_to_bfloat16(const uint16_t x) {
  return as_type<bfloat16_t>(x);
}

#define MTL_CONST constant
#ifndef MLX_MTL_PRAGMA_UNROLL
#define MLX_MTL_PRAGMA_UNROLL _Pragma("clang loop unroll(full)")
#endif
static constexpr constant int MAX_REDUCE_SPECIALIZED_DIMS = 4;
static constexpr constant int REDUCE_N_READS = 4;
static constexpr constant int REDUCE_N_WRITES = 4;
static constexpr constant int SOFTMAX_N_READS = 4;
static constexpr constant int RMS_N_READS = 4;
static constexpr constant int RMS_LOOPED_LIMIT = 4096;
static constexpr constant int CROSS_ENTROPY_N_READS = 4;
#define instantiate_kernel(name, func, ...) \
  template [[host_name(name)]] [[kernel]] decltype(func<__VA_ARGS__>) func<__VA_ARGS__>;

namespace mlx {
struct os_log { /* literals are in constant memory to Metal, but not to clang */
  constexpr os_log(const char*, const char*) {}
  template <class... Values>
  void log_debug(const char*, Values...) const {}
};
} // namespace mlx

template <class T>
struct WorkPerThread {
  static constexpr int constant n = int(8 / sizeof(T));
};

/* `max` and `min` are infinite where the type has infinities. */
template <class T>
struct Limits {
  static constexpr constant T max = numeric_limits<T>::max();
  static constexpr constant T min = numeric_limits<T>::min();
  static constexpr constant T finite_max = numeric_limits<T>::max();
  static constexpr constant T finite_min = numeric_limits<T>::min();
};
#define __MSL_LIMITS(T)                                                      \
  template <>                                                                \
  struct Limits<T> {                                                         \
    static constexpr constant T max = numeric_limits<T>::infinity();         \
    static constexpr constant T min = T(-INFINITY);                          \
    static constexpr constant T finite_max = numeric_limits<T>::max();       \
    static constexpr constant T finite_min = numeric_limits<T>::lowest();    \
  };
__MSL_LIMITS(float)
__MSL_LIMITS(half)
__MSL_LIMITS(bfloat)
#undef __MSL_LIMITS
template <class T>
struct Limits<complex_t<T>> {
  static constexpr constant complex_t<T> max = complex_t<T>(T(INFINITY), T(INFINITY));
  static constexpr constant complex_t<T> min = complex_t<T>(T(-INFINITY), T(-INFINITY));
};

/* Where element number `element` lies, in a row-major order of `ndim` dimensions. */
template <class Index = int64_t>
METAL_FUNC Index elem_to_loc(
    Index element, constant const int* shape, constant const int64_t* strides, int ndim) {
  Index place = 0;
  for (int d = ndim - 1; d >= 0; d--) {
    place += Index(element % Index(shape[d])) * Index(strides[d]);
    element /= Index(shape[d]);
  }
  return place;
}
/* The same, with the last two dimensions' indices apart, in x and y. */
template <class Index = int64_t>
METAL_FUNC Index elem_to_loc(
    uint3 element, constant const int* shape, constant const int64_t* strides, int ndim) {
  Index last = Index(element.x) * Index(strides[ndim - 1]);
  Index before = Index(element.y) * Index(strides[ndim - 2]);
  return last + before + elem_to_loc<Index>(Index(element.z), shape, strides, ndim - 2);
}
template <class Index = int64_t>
METAL_FUNC Index elem_to_loc_1(uint element, constant const int64_t& stride) {
  return Index(element) * Index(stride);
}
template <class Index = int64_t>
METAL_FUNC Index elem_to_loc_2(uint2 element, constant const int64_t* strides) {
  return Index(element.x) * Index(strides[1]) + Index(element.y) * Index(strides[0]);
}
template <class Index = int64_t>
METAL_FUNC Index elem_to_loc_3(uint3 element, constant const int64_t* strides) {
  return elem_to_loc_2<Index>(element.xy, strides + 1) + Index(element.z) * Index(strides[0]);
}
template <class Index = int64_t>
METAL_FUNC vec<Index, 2> elem_to_loc_2_nd(
    uint3 element, constant const int* shape, constant const int64_t* a_strides,
    constant const int64_t* b_strides, int ndim) {
  return vec<Index, 2>{
      elem_to_loc<Index>(element, shape, a_strides, ndim),
      elem_to_loc<Index>(element, shape, b_strides, ndim)};
}
template <class Index = int64_t>
METAL_FUNC vec<Index, 3> elem_to_loc_3_nd(
    uint3 element, constant const int* shape, constant const int64_t* a_strides,
    constant const int64_t* b_strides, constant const int64_t* c_strides, int ndim) {
  return vec<Index, 3>{
      elem_to_loc<Index>(element, shape, a_strides, ndim),
      elem_to_loc<Index>(element, shape, b_strides, ndim),
      elem_to_loc<Index>(element, shape, c_strides, ndim)};
}

/* The same for elements visited in order. */
template <int Dimensions, class Offset = size_t, bool General = true>
struct LoopedElemToLoc {
  int dim;
  Offset offset{0};
  uint index{0};
  LoopedElemToLoc(int dim) : dim(dim) {}
  void next(const constant int* shape, const constant int64_t* strides) {
    next(1, shape, strides);
  }
  void next(int n, const constant int* shape, const constant int64_t* strides) {
    index += uint(n);
    offset = Offset(elem_to_loc<int64_t>(int64_t(index), shape, strides, dim));
  }
  Offset location() const {
    return offset;
  }
};
template <class Offset>
struct LoopedElemToLoc<1, Offset, false> {
  Offset offset{0};
  LoopedElemToLoc(int) {}
  void next(const constant int*, const constant int64_t* strides) {
    offset += Offset(strides[0]);
  }
  void next(int n, const constant int*, const constant int64_t* strides) {
    offset += Offset(n) * Offset(strides[0]);
  }
  Offset location() const {
    return offset;
  }
};

template <class T, class U>
inline T ceildiv(T n, U m) {
  return (n + m - 1) / m;
}

/* ln(1 + x), of small x from what 1 + x has lost. */
inline float log1p(float x) {
  return __builtin_log1pf(x);
}
inline bfloat16_t log1p(bfloat16_t x) {
  return bfloat16_t(log1p(float(x)));
}
inline float hypot(float x, float y) {
  return __builtin_hypotf(x, y);
}
inline complex64_t log1p(complex64_t z) {
  float x = z.real;
  float y = z.imag;
  float angle = metal::atan2(y, 1 + x);
  if (x * x + y * y >= 0.25f)
    return complex64_t(metal::log(hypot(1 + x, y)), angle);
  return complex64_t(0.5f * log1p(x * (2 + x) + y * y), angle);
}

/* Shuffles of what Metal's own do not take. Each is one operation of the simdgroup. */
#define __MSL_WIDER_SHUFFLE(T, NAME, SOURCE)                                      \
  inline T NAME(T data, uint16_t number, __MSL_HERE) {                            \
    return metal::__shuffle(data, data, SOURCE, false, __here.site);              \
  }
#define __MSL_WIDER_SHUFFLES(T)                                                               \
  __MSL_WIDER_SHUFFLE(T, simd_shuffle, metal::__from_lane(number, 32))                        \
  __MSL_WIDER_SHUFFLE(T, simd_shuffle_up, metal::__from_shift(-int(number), 32))              \
  __MSL_WIDER_SHUFFLE(T, simd_shuffle_down, metal::__from_shift(int(number), 32))             \
  inline T simd_shuffle_and_fill_up(T data, T filling, uint16_t delta, __MSL_HERE) {          \
    return metal::__shuffle_and_fill(data, filling, -int(delta), 32, __here.site);            \
  }
__MSL_WIDER_SHUFFLES(uint64_t)
__MSL_WIDER_SHUFFLES(int64_t)
__MSL_WIDER_SHUFFLES(bool)
__MSL_WIDER_SHUFFLES(complex64_t)
#undef __MSL_WIDER_SHUFFLES
#undef __MSL_WIDER_SHUFFLE

template <bool Condition, class T, class F>
struct ConditionalType {
  using type = metal::conditional_t<Condition, T, F>;
};
template <class To, class From>
inline To cast_to(From x) {
  return static_cast<To>(x);
}

/* Which group of rows a tile of `Rows` rows belongs to, each group starting a tile of its own. */
template <int Rows>
METAL_FUNC bool schedule_row_tile(
    const device int32_t* offsets, const int groups, const int total, const int tile,
    const uint, thread int& row, thread int& group, thread short& rows) {
  int before = 0;
  for (group = 0; group < groups; group++) {
    int start = offsets[group];
    int end = group + 1 < groups ? offsets[group + 1] : total;
    int tiles = ceildiv(end - start, Rows);
    if (tile < before + tiles) {
      row = start + (tile - before) * Rows;
      rows = short(metal::min(Rows, end - row));
      return true;
    }
    before += tiles;
  }
  return false;
}
