// A linear layer with a matrix a head: y[h] = W[h] x[h], for the few rows of a decoding step.
//
// Heads are narrow (128 to 512), so a lane takes 32 values of one of W's rows, and a simdgroup as
// many neighbouring rows as fit: 512 contiguous bytes of 4 bits, 8 rows of 128 or 2 of 512. What
// a lane holds is used for all rows of x, which lie in a cache; the lanes of a row then add up.
// Bytes: W with its scales once, x and y once. 16 heads of 128 by 512 are 256 threadgroups.
// REST values of each head are not multiplied: they follow its outputs as they are.

#include <metal_stdlib>
using namespace metal;
#include "weight.h"

constant constexpr int RUN = 32;
constant constexpr int SIMDGROUPS = 4;

// Where the c-th eight of a lane's values are: plain numbers are loaded 8 at a time by lanes side
// by side, codes all at once.
template <int FORMAT>
inline int place_of(int c, int part, int lanes) {
  return FORMAT == DENSE ? (c * lanes + part) * 8 : part * RUN + c * 8;
}

template <int FORMAT, int GROUP, int INPUTS, typename S>
inline void load_row(
    const device uint* weight,
    const device S* scales,
    const device Bias<S>* biases,
    uint row,
    int part,
    int lanes,
    thread float* values) {
  uint words[words_of<FORMAT, RUN>()];
  load_codes<FORMAT, RUN>(weight + size_t(row) * stored_of<FORMAT>(INPUTS), part * RUN, words);
  uint group = row * (INPUTS / GROUP) + part * RUN / GROUP;
  constexpr int PARTS = parts_of<GROUP, RUN>();
  float2 scaling[PARTS];
  load_scaling<FORMAT, GROUP, RUN>(scales, biases, group, scaling);
  for (int i = 0; i < RUN; i++) {
    float2 mine = scaling[i / (RUN / PARTS)];
    values[i] = value_at<FORMAT>(words, i, mine.x, mine.y);
  }
}

template <int FORMAT, int GROUP, int INPUTS, typename W>
inline void load_row(
    const device W* weight,
    const device W*,
    const device W*,
    uint row,
    int part,
    int lanes,
    thread float* values) {
  for (int c = 0; c < RUN / 8; c++) {
    int at = place_of<DENSE>(c, part, lanes);
    if (at < INPUTS) {
      load_values<8>(weight + size_t(row) * INPUTS + at, values + 8 * c);
    }
  }
}

template <
    typename T, typename W, typename S, int FORMAT, int GROUP, int HEADS, int INPUTS,
    int OUTPUTS, int LANES, int SETS, int REST>
[[kernel]] void head_linear(
    const device T* x [[buffer(0)]],
    const device W* weight [[buffer(1)]],
    const device S* scales [[buffer(2)]],
    const device Bias<S>* biases [[buffer(3)]],
    constant int& rows [[buffer(4)]],
    device T* y [[buffer(5)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  int lane = thread_index_in_simdgroup;
  int part = lane % LANES;
  int simd = threadgroup_position_in_grid.x * SIMDGROUPS + simdgroup_index_in_threadgroup;
  constexpr int NEAR = 32 / LANES;
  int first_output = simd * SETS * NEAR + lane / LANES;
  int output = min(first_output, HEADS * OUTPUTS - 1 - (SETS - 1) * NEAR);
  int head = output / OUTPUTS;
  bool stores = first_output == output;
  float values[SETS][RUN];
#pragma unroll
  for (int s = 0; place_of<FORMAT>(0, part, LANES) < INPUTS && s < SETS; ++s) {
    load_row<FORMAT, GROUP, INPUTS>(
        weight, scales, biases, output + s * NEAR, part, LANES, values[s]);
  }
  for (int row = 0; row < rows; ++row) {
    const device T* from = x + (row * HEADS + head) * (INPUTS + REST);
    device T* to = y + (row * HEADS + head) * (OUTPUTS + REST);
    float sums[SETS] = {0};
#pragma unroll
    for (int c = 0; c < RUN / 8; ++c) {
      int at = place_of<FORMAT>(c, part, LANES);
      if (at < INPUTS) {
        float eight[8];
        load_values<8>(from + at, eight);
#pragma unroll
        for (int i = 0; i < 8 * SETS; ++i) {
          sums[i / 8] = fma(values[i / 8][8 * c + i % 8], eight[i % 8], sums[i / 8]);
        }
      }
    }
    for (int s = 0; s < SETS; ++s) {
      for (int apart = 1; apart < LANES; apart *= 2) {
        sums[s] += simd_shuffle_xor(sums[s], apart);
      }
      if (stores && part == 0) {
        to[output % OUTPUTS + s * NEAR] = T(sums[s]);
      }
    }
    for (int i = part; stores && output % OUTPUTS == 0 && i < REST; i += LANES) {
      to[OUTPUTS + i] = from[INPUTS + i];
    }
  }
}

// instantiations
#define HEAD_LINEAR(name, T, W, format, inputs, outputs, lanes, sets, rest)                        \
  template [[host_name(name)]] [[kernel]] decltype(                                                \
      head_linear<T, W, T, format, 64, 16, inputs, outputs, lanes, sets, rest>)                    \
      head_linear<T, W, T, format, 64, 16, inputs, outputs, lanes, sets, rest>;
HEAD_LINEAR("head_linear_into_half_4", half, uint, 4, 128, 512, 4, 1, 64)
HEAD_LINEAR("head_linear_into_bfloat_4", bfloat, uint, 4, 128, 512, 4, 2, 64)
HEAD_LINEAR("head_linear_out_half_4", half, uint, 4, 512, 128, 16, 1, 0)
HEAD_LINEAR("head_linear_out_float_8", float, uint, 8, 512, 128, 16, 2, 0)
HEAD_LINEAR("head_linear_out_half", half, half, DENSE, 512, 128, 16, 1, 0)
HEAD_LINEAR("head_linear_out_bfloat", bfloat, bfloat, DENSE, 512, 128, 16, 1, 0)
