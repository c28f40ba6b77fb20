// One row of x times a quantized matrix, with the norm before it and what comes after it.
//
// A simdgroup of 32 lanes owns 4 rows, or 2 of the gate and the 2 of up that they meet. Of a row
// a lane takes 16 or 32 consecutive codes (8 to 20 bytes; the lanes together a stretch without
// gaps), then all lanes go on by 32 such runs. Lanes that lie in one group, or superblock, load its
// scale in the same instruction, and no other instruction loads it again: weights, scales and
// biases move once.
// x and the norm's weight are short, and stay in cache for the simdgroups of all rows.
// Threadgroups of 2 simdgroups, each with rows of its own; of 2 or 4 that share 4 rows where a
// matrix has so few rows that some cores would have nothing to wait for (SPLIT).
// Sizes are no template values: all matrices of a model that are used alike share one kernel.
#include <metal_stdlib>
using namespace metal;
#include "matvec.h"
#include "scales.h"

template <
    typename T,
    typename S,
    typename G,
    int FORMAT,
    int GROUP,
    int SPLIT,
    int ACTIVATION,
    bool NORM,
    bool BIAS,
    bool RESIDUAL>
[[kernel]] void linear(
    const device T* x [[buffer(0)]],
    const device uint* weight [[buffer(1)]],
    const device S* scales [[buffer(2)]],
    const device Bias<S>* biases [[buffer(3)]],
    const device G* gain [[buffer(4)]],
    const device T* bias [[buffer(5)]],
    const device T* residual [[buffer(6)]],
    constant float& eps [[buffer(7)]],
    constant float& limit [[buffer(8)]],
    constant int& inputs [[buffer(9)]],
    constant int& results [[buffer(10)]],
    device T* y [[buffer(11)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  constexpr int COUNT = run_of<FORMAT>();
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
    float of_x[parts_of<GROUP, COUNT>()];
    prepare<FORMAT, GROUP, COUNT>(values, of_x);
    for (uint r = 0; r < ROWS; r++) {
      size_t row = row_of<ACTIVATION>(first, r, results);
      uint words[words_of<FORMAT, COUNT>()];
      load_codes<FORMAT, COUNT>(weight + row * (inputs / 32 * bits_of<FORMAT>()), k, words);
      float2 scaling[parts_of<GROUP, COUNT>()];
      size_t group = row * (inputs / GROUP) + k / GROUP;
      load_scaling<FORMAT, GROUP, COUNT>(scales, biases, group, scaling);
      sums[r] = add_run<FORMAT, GROUP, COUNT>(words, scaling, values, of_x, sums[r]);
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
#define instantiate(name, T, format, group, split, activation, norm, bias, residual) \
  template [[host_name(name)]] [[kernel]] decltype( \
      linear<T, T, T, format, group, split, activation, norm, bias, residual>) \
      linear<T, T, T, format, group, split, activation, norm, bias, residual>;
instantiate("linear_float_4", float, 4, 64, 1, 0, true, false, false)
instantiate("linear_half_4", half, 4, 64, 2, 0, false, true, true)
instantiate("linear_bfloat_8", bfloat, 8, 64, 4, 1, true, true, false)
instantiate("linear_half_3", half, 3, 32, 1, 2, true, false, false)
instantiate("linear_bfloat_5", bfloat, 5, 128, 1, 0, true, false, false)
instantiate("linear_half_6", half, 6, 64, 1, 3, true, false, false)
#define superblocks(name, T, format, group) \
  template [[host_name(name)]] [[kernel]] decltype( \
      linear<T, uint, T, format, group, 1, 0, true, false, false>) \
      linear<T, uint, T, format, group, 1, 0, true, false, false>;
superblocks("linear_half_q2_k", half, Q2_K, 16)
superblocks("linear_half_q3_k", half, Q3_K, 16)
superblocks("linear_half_q4_k", half, Q4_K, 32)
superblocks("linear_bfloat_q6_k", bfloat, Q6_K, 16)
superblocks("linear_float_iq4_xs", float, IQ4_XS, 32)
