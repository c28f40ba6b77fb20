/* simdgroup_matrix: 8 x 8 numbers, two to a lane, in the arrangement of Apple's GPUs that MLX's
   steel kernels rely on. Products sum in float, in ascending k, and round once. */
#pragma once
#include "msl_simd.h"

namespace metal {
inline constexpr uint __all_lanes = 0xffffffffu;
inline constexpr uint __matrix_flops = 2 * 8 * 8 * 8;

__MSL_INLINE uint __row_of(uint lane) {
  return (lane / 4u & 4u) + lane / 2u % 4u;
}
__MSL_INLINE uint __column_of(uint lane) {
  return (lane / 4u & 2u) * 2u + lane % 2u * 2u;
}

template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8, "a simdgroup_matrix is 8 x 8");
  static_assert(__is_float<T>, "a simdgroup_matrix is of half, bfloat or float");
  typedef vec<T, 2> storage_type;
  storage_type __elements;

  __MSL_INLINE simdgroup_matrix() : __elements(__undefined<storage_type>()) {}
  /* A diagonal of `value`, not a fill with it. */
  __MSL_INLINE explicit simdgroup_matrix(T value) {
    uint row = __row_of(__msl_lane());
    uint column = __column_of(__msl_lane());
    __elements[0] = row == column ? value : T(0);
    __elements[1] = row == column + 1 ? value : T(0);
  }
  __MSL_INLINE storage_type& thread_elements() {
    return __elements;
  }
  __MSL_INLINE const storage_type& thread_elements() const {
    return __elements;
  }
};
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;

template <class T, int Columns = 8, int Rows = 8>
__MSL_INLINE simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, Columns, Rows> filled;
  filled.__elements = value;
  return filled;
}
template <class T, int Size = 8>
__MSL_INLINE simdgroup_matrix<T, Size, Size> make_diagonal_simdgroup_matrix(T value) {
  return simdgroup_matrix<T, Size, Size>(value);
}

struct __matrix_place {
  const void* start;
  ulong stride;
  ulong column;
  ulong row;
  bool transposed;
  uint line;
};
inline bool __same_place(const __matrix_place& a, const __matrix_place& b) {
  return a.start == b.start && a.stride == b.stride && a.column == b.column && a.row == b.row &&
      a.transposed == b.transposed;
}
inline void __lanes_matrix_place(void** slots, uint active) {
  const __matrix_place& first = __slot<__matrix_place>(slots, __builtin_ctz(active));
  if (active != __all_lanes)
    __msl_trap(first.line, "simdgroup_load or simdgroup_store without all 32 lanes");
  for (int i = 0; i < __simd_width; i++)
    if (!__same_place(first, __slot<__matrix_place>(slots, i)))
      __msl_trap(first.line, "simdgroup_load or simdgroup_store: arguments differ between lanes");
}
/* All lanes have to agree on where a matrix lies; looked at by the checking builds only. */
__MSL_INLINE void __agree(ulong start, ulong stride, ulong2 origin, bool transposed, uint site) {
#ifdef MSL_CHECK
  __matrix_place place{(const void*)start, stride, origin[0], origin[1], transposed, site / 256u};
  __msl_simd(site, __MSL_OP_MATRIX_MOVE, &place, __lanes_matrix_place);
#endif
}

#define __MSL_MATRIX_MOVES(SPACE)                                                              \
  template <class T>                                                                           \
  __MSL_INLINE void simdgroup_load(thread simdgroup_matrix<T, 8, 8>& matrix,                   \
                                   const SPACE T* source, ulong stride = 8,                    \
                                   ulong2 origin = ulong2{0, 0},                               \
                                   bool transposed = false, __MSL_HERE) {                      \
    __agree((ulong)source, stride, origin, transposed, __here.site);                           \
    ulong row = __row_of(__msl_lane());                                                        \
    ulong column = __column_of(__msl_lane());                                                  \
    source += origin[1] * stride + origin[0];                                                  \
    source += transposed ? column * stride + row : row * stride + column;                      \
    matrix.__elements[0] = source[0];                                                          \
    matrix.__elements[1] = source[transposed ? stride : 1];                                    \
  }                                                                                            \
  template <class T>                                                                           \
  __MSL_INLINE void simdgroup_store(simdgroup_matrix<T, 8, 8> matrix, SPACE T* target,         \
                                    ulong stride = 8, ulong2 origin = ulong2{0, 0},            \
                                    bool transposed = false, __MSL_HERE) {                     \
    __agree((ulong)target, stride, origin, transposed, __here.site);                           \
    ulong row = __row_of(__msl_lane());                                                        \
    ulong column = __column_of(__msl_lane());                                                  \
    target += origin[1] * stride + origin[0];                                                  \
    target += transposed ? column * stride + row : row * stride + column;                      \
    target[0] = matrix.__elements[0];                                                          \
    target[transposed ? stride : 1] = matrix.__elements[1];                                    \
  }
__MSL_MATRIX_MOVES(device)
__MSL_MATRIX_MOVES(threadgroup)
#undef __MSL_MATRIX_MOVES

struct __factors {
  const void* a;
  const void* b;
  const void* c; /* null where nothing is added */
  void* result;
  uint line;
};
/* The 8-column rows of a matrix whose lanes keep their parts behind `part` of their slots. */
typedef float __matrix_row __attribute__((ext_vector_type(8)));
template <class T>
__MSL_INLINE void __gather(void** slots, const void* __factors::*part, __matrix_row* rows) {
  for (uint lane = 0; lane < __simd_width; lane++) {
    const vec<T, 2> pair = *(const vec<T, 2>*)(__slot<__factors>(slots, int(lane)).*part);
    uint column = __column_of(lane);
    rows[__row_of(lane)][column] = float(pair[0]);
    rows[__row_of(lane)][column + 1] = float(pair[1]);
  }
}
template <class D, class A, class B, class C>
void __lanes_multiply(void** slots, uint active) {
  __factors& first = __slot<__factors>(slots, __builtin_ctz(active));
  if (active != __all_lanes) {
    __msl_trap(first.line, "simdgroup_multiply_accumulate without all 32 lanes");
    return;
  }
  __matrix_row a[8], b[8], c[8] = {};
  __gather<A>(slots, &__factors::a, a);
  __gather<B>(slots, &__factors::b, b);
  if (first.c)
    __gather<C>(slots, &__factors::c, c);
  for (int i = 0; i < 8; i++)
    for (int k = 0; k < 8; k++)
      c[i] += a[i][k] * b[k];
  for (uint lane = 0; lane < __simd_width; lane++) {
    vec<D, 2>& result = *(vec<D, 2>*)__slot<__factors>(slots, int(lane)).result;
    result[0] = D(c[__row_of(lane)][__column_of(lane)]);
    result[1] = D(c[__row_of(lane)][__column_of(lane) + 1]);
  }
  __msl_count_mma(__matrix_flops);
}

/* d = a b + c */
template <class D, class A, class B, class C>
__MSL_INLINE void simdgroup_multiply_accumulate(
    thread simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b,
    simdgroup_matrix<C, 8, 8> c, __MSL_HERE) {
  vec<D, 2> result;
  __factors slot{&a.__elements, &b.__elements, &c.__elements, &result, __here.line()};
  __msl_simd(__here.site, __MSL_OP_MULTIPLY, &slot, __lanes_multiply<D, A, B, C>);
  d.__elements = result;
}
/* d = a b */
template <class D, class A, class B>
__MSL_INLINE void simdgroup_multiply(
    thread simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b,
    __MSL_HERE) {
  vec<D, 2> result;
  __factors slot{&a.__elements, &b.__elements, nullptr, &result, __here.line()};
  __msl_simd(__here.site, __MSL_OP_MULTIPLY, &slot, __lanes_multiply<D, A, B, float>);
  d.__elements = result;
}
} // namespace metal
