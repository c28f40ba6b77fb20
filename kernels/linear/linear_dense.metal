// One row of x times a matrix of floats, with the norm before it and what comes after it.
//
// As linear.metal does it: a simdgroup owns 4 rows, or 2 of the gate and the 2 of up that they
// meet; the matrix is moved once. A lane takes 16 bytes of a row at a time where rows begin at
// multiples of 16 bytes, otherwise one value (COUNT).
#include <metal_stdlib>
using namespace metal;
#include "matvec.h"

template <
    typename T,
    typename W,
    typename G,
    int COUNT,
    int SPLIT,
    int ACTIVATION,
    bool NORM,
    bool BIAS,
    bool RESIDUAL>
[[kernel]] void linear_dense(
    const device T* x [[buffer(0)]],
    const device W* weight [[buffer(1)]],
    const device G* gain [[buffer(2)]],
    const device T* bias [[buffer(3)]],
    const device T* residual [[buffer(4)]],
    constant float& eps [[buffer(5)]],
    constant float& limit [[buffer(6)]],
    constant int& inputs [[buffer(7)]],
    constant int& results [[buffer(8)]],
    device T* y [[buffer(9)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  threadgroup float parts[SPLIT * (ROWS + 1)];
  uint lane = thread_index_in_simdgroup;
  uint simdgroup = simdgroup_index_in_threadgroup;
  uint tile = threadgroup_position_in_grid.x;
  tile = SPLIT > 1 ? tile : 2 * tile + simdgroup;
  uint first = tile * tile_of<ACTIVATION>();
  uint share = SPLIT > 1 ? simdgroup : 0;
  float sums[ROWS + 1] = {0};
  for (uint k = (share * 32 + lane) * COUNT; k < uint(inputs); k += SPLIT * 32 * COUNT) {
    float values[COUNT];
    load_input<NORM, COUNT>(x, gain, k, values, sums[ROWS]);
    for (uint r = 0; r < ROWS; r++) {
      float stored[COUNT];
      load_values<COUNT>(weight + row_of<ACTIVATION>(first, r, results) * inputs + k, stored);
      for (int i = 0; i < COUNT; i++) {
        sums[r] = fma(stored[i], values[i], sums[r]);
      }
    }
  }
  reduce<SPLIT, NORM ? ROWS + 1 : ROWS>(sums, parts, simdgroup, lane);
  float factor = NORM ? precise::rsqrt(sums[ROWS] / float(inputs) + eps) : 1.0f;
  if (share == 0) {
    finish<ACTIVATION, BIAS, RESIDUAL>(
        sums, factor, bias, residual, limit, first, results, lane, y);
  }
}

// instantiations
#define instantiate(name, T, W, count, split, activation, norm, bias, residual) \
  template [[host_name(name)]] [[kernel]] decltype( \
      linear_dense<T, W, T, count, split, activation, norm, bias, residual>) \
      linear_dense<T, W, T, count, split, activation, norm, bias, residual>;
instantiate("linear_dense_float", float, float, 4, 1, 0, true, false, false)
instantiate("linear_dense_half", half, half, 8, 2, 0, false, true, true)
instantiate("linear_dense_bfloat", bfloat, bfloat, 8, 4, 1, true, true, false)
instantiate("linear_dense_odd", half, half, 1, 1, 0, true, false, false)
