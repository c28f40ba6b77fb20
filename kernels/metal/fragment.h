// The 8x8 matrices that a simdgroup multiplies, in float: which two values each lane holds.
//
// A lane has (row, column) and (row, column + 1), the same in all three operands of a product.
// Values are converted as they are loaded, so that no narrow product is ever rounded or overflows.
#pragma once

// A loop whose variable picks one of several fragments: those it would not unroll leave registers.
#define UNROLLED _Pragma("clang loop unroll(full)")

typedef simdgroup_matrix<float, 8, 8> Fragment;

inline uint fragment_row(uint lane) {
  return (lane >> 2 & 4) + (lane >> 1 & 3);
}

inline uint fragment_column(uint lane) {
  return (lane >> 1 & 4) + 2 * (lane & 1);
}

inline void set(thread Fragment& matrix, float first, float second) {
  matrix.thread_elements()[0] = first;
  matrix.thread_elements()[1] = second;
}

// Over the lanes of a column; each of them gets the sum.
inline float column_sum(float value) {
  value += simd_shuffle_xor(value, 2);
  value += simd_shuffle_xor(value, 4);
  return value + simd_shuffle_xor(value, 16);
}

// Over the lanes of a row.
inline float row_sum(float value) {
  value += simd_shuffle_xor(value, 1);
  return value + simd_shuffle_xor(value, 8);
}
