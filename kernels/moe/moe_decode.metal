// A few tokens through their chosen experts: two launches, each expert's rows read for its token.
//
// `moe_inner` makes the activated rows between up and down. A simdgroup takes four rows of the gate
// and the same four of up, so that x is loaded once for eight; the grid is (tiles of rows, slices,
// tokens), where a token's first PICKS slices are its chosen experts and the others the shared
// expert's rows, WIDTH at a time: some 1500 simdgroups for one token of a model with eight small
// experts. `moe_outer` sums over all of them: a threadgroup owns four rows of the result, its
// threads go along the token's inner rows as if they were one (PICKS * WIDTH + SHARED long), each
// run against its own expert's row, so that no lanes idle at an expert's end, nothing is added up
// in memory, and the result is written once.
// The floor is the chosen experts' weights, scales and biases, once each; a group's scale is read
// by all its lanes in one instruction. x and the inner rows are small and come from the cache.
#include <metal_stdlib>
using namespace metal;
#include "activation.h"
#include "weight.h"

// The shared expert's gate and up are one weight, the gate's rows first. Its part of each token is
// as large as `shared_gate` says: a linear function of x, through a sigmoid.
template <
    typename T,
    typename W,
    typename S,
    typename N,
    int HIDDEN,
    int WIDTH,
    int SHARED,
    int PICKS,
    int FORMAT,
    int GROUP,
    int ACTIVATION,
    bool BIASED,
    bool NORMED,
    bool GATED>
[[kernel]] void moe_inner(
    const device T* x [[buffer(0)]],
    const device int* chosen [[buffer(1)]],
    const device N* norm_weight [[buffer(2)]],
    constant float& eps [[buffer(3)]],
    const device W* gate [[buffer(4)]],
    const device S* gate_scales [[buffer(5)]],
    const device Bias<S>* gate_biases [[buffer(6)]],
    const device W* up [[buffer(7)]],
    const device S* up_scales [[buffer(8)]],
    const device Bias<S>* up_biases [[buffer(9)]],
    const device float* gate_bias [[buffer(10)]],
    const device float* up_bias [[buffer(11)]],
    constant float& limit [[buffer(12)]],
    const device W* shared [[buffer(13)]],
    const device S* shared_scales [[buffer(14)]],
    const device Bias<S>* shared_biases [[buffer(15)]],
    const device T* shared_gate [[buffer(16)]],
    device T* inner [[buffer(17)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  constexpr uint ROWS = 4;
  constexpr int RUN = length_of<FORMAT>();
  uint lane = thread_index_in_simdgroup;
  uint slice = threadgroup_position_in_grid.y;
  uint token = threadgroup_position_in_grid.z;
  bool routed = slice < PICKS;
  uint start = (threadgroup_position_in_grid.x * 2 + simdgroup_index_in_threadgroup) * ROWS;
  uint begin = routed ? 0 : (slice - PICKS) * WIDTH;
  uint rows = routed ? WIDTH : min(uint(WIDTH), SHARED - begin);
  uint row = begin + min(start, rows - ROWS);
  size_t expert = routed ? chosen[token * PICKS + slice] : 0;
  Rows<W, S> gates = {shared, shared_scales, shared_biases};
  Rows<W, S> ups = from_row<FORMAT, GROUP>(gates, SHARED + row, HIDDEN);
  gates = from_row<FORMAT, GROUP>(gates, row, HIDDEN);
  if (routed) {
    gates = from_row<FORMAT, GROUP>(
        Rows<W, S>{gate, gate_scales, gate_biases}, expert * WIDTH + row, HIDDEN);
    ups = from_row<FORMAT, GROUP>(
        Rows<W, S>{up, up_scales, up_biases}, expert * WIDTH + row, HIDDEN);
  }
  float gate_sums[ROWS] = {0};
  float up_sums[ROWS] = {0};
  float squares = 0;
  float gate_sum = 0;
  for (uint first = lane * RUN; first < HIDDEN; first += 32 * RUN) {
    float values[RUN];
    load_values<RUN>(x + token * HIDDEN + first, values);
    if (NORMED) {
      float factors[RUN];
      load_values<RUN>(norm_weight + first, factors);
      for (int i = 0; i < RUN; i++) {
        squares = fma(values[i], values[i], squares);
        values[i] *= factors[i];
      }
    }
    if (GATED && !routed) {
      float factors[RUN];
      load_values<RUN>(shared_gate + first, factors);
      for (int i = 0; i < RUN; i++) {
        gate_sum = fma(values[i], factors[i], gate_sum);
      }
    }
    float sums_of_x[parts_of<GROUP, RUN>()];
    prepare<FORMAT, GROUP, RUN>(values, sums_of_x);
    for (uint r = 0; r < ROWS; r++) {
      gate_sums[r] += along<FORMAT, GROUP>(gates, r, HIDDEN, first, values, sums_of_x);
      up_sums[r] += along<FORMAT, GROUP>(ups, r, HIDDEN, first, values, sums_of_x);
    }
  }
  float factor = NORMED ? precise::rsqrt(simd_sum(squares) / HIDDEN + eps) : 1.0f;
  float share = GATED && !routed ? sigmoid(simd_sum(gate_sum) * factor) : 1.0f;
  float mine = 0;
  for (uint r = 0; r < ROWS; r++) {
    float left = simd_sum(gate_sums[r]) * factor;
    float right = simd_sum(up_sums[r]) * factor;
    if (BIASED && routed) {
      left += gate_bias[expert * WIDTH + row + r];
      right += up_bias[expert * WIDTH + row + r];
    }
    mine = lane == r ? share * activated<ACTIVATION>(left, right, limit) : mine;
  }
  if (lane < ROWS && row + lane >= begin + start) {
    uint place = (routed ? slice : PICKS) * WIDTH + row + lane;
    inner[token * size_t(PICKS * WIDTH + SHARED) + place] = T(mine);
  }
}

template <
    typename T,
    typename W,
    typename S,
    int HIDDEN,
    int WIDTH,
    int SHARED,
    int PICKS,
    int FORMAT,
    int GROUP,
    bool BIASED,
    bool RESIDUAL>
[[kernel]] void moe_outer(
    const device T* inner [[buffer(0)]],
    const device int* chosen [[buffer(1)]],
    const device float* weights [[buffer(2)]],
    const device W* down [[buffer(3)]],
    const device S* scales [[buffer(4)]],
    const device Bias<S>* biases [[buffer(5)]],
    const device float* down_bias [[buffer(6)]],
    const device W* shared [[buffer(7)]],
    const device S* shared_scales [[buffer(8)]],
    const device Bias<S>* shared_biases [[buffer(9)]],
    const device T* residual [[buffer(10)]],
    device T* y [[buffer(11)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  constexpr uint ROWS = 4;
  constexpr uint SIMDGROUPS = 4;
  constexpr uint RUN = length_of<FORMAT>();
  constexpr uint ROUTED = PICKS * (WIDTH / RUN);
  constexpr uint RUNS = ROUTED + SHARED / RUN;
  threadgroup float parts[SIMDGROUPS * ROWS];
  uint token = threadgroup_position_in_grid.y;
  uint row = threadgroup_position_in_grid.x * ROWS;
  float sums[ROWS] = {0};
  for (uint run = thread_index_in_threadgroup; run < RUNS; run += 32 * SIMDGROUPS) {
    bool routed = run < ROUTED;
    uint slice = run / (WIDTH / RUN);
    uint first = (routed ? run % (WIDTH / RUN) : run - ROUTED) * RUN;
    uint place = token * PICKS + slice;
    float share = routed ? weights[place] : 1.0f;
    size_t at = routed ? size_t(chosen[place]) * HIDDEN + row : row;
    uint inputs = routed ? WIDTH : SHARED;
    Rows<W, S> rows = {shared, shared_scales, shared_biases};
    if (routed) {
      rows = Rows<W, S>{down, scales, biases};
    }
    rows = from_row<FORMAT, GROUP>(rows, at, inputs);
    float values[RUN];
    load_values<RUN>(inner + size_t(token) * (RUNS * RUN) + run * RUN, values);
    float sums_of_x[parts_of<GROUP, RUN>()];
    prepare<FORMAT, GROUP, RUN>(values, sums_of_x);
    for (uint r = 0; r < ROWS; r++) {
      float part = along<FORMAT, GROUP>(rows, r, inputs, first, values, sums_of_x);
      sums[r] = fma(share, part, sums[r]);
    }
  }
  for (uint r = 0; r < ROWS; r++) {
    float sum = simd_sum(sums[r]);
    if (thread_index_in_simdgroup == 0) {
      parts[simdgroup_index_in_threadgroup * ROWS + r] = sum;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint mine = thread_index_in_threadgroup;
  if (mine < ROWS) {
    float sum = 0;
    for (uint i = 0; i < SIMDGROUPS; i++) {
      sum += parts[i * ROWS + mine];
    }
    for (uint i = 0; i < PICKS && BIASED; i++) {
      uint place = token * PICKS + i;
      sum = fma(weights[place], down_bias[size_t(chosen[place]) * HIDDEN + row + mine], sum);
    }
    size_t at = size_t(token) * HIDDEN + row + mine;
    y[at] = T(RESIDUAL ? sum + float(residual[at]) : sum);
  }
}

// instantiations
#define DECODE(T, W, S, FORMAT) \
  template [[host_name("moe_inner_" #T "_" #FORMAT)]] [[kernel]] decltype( \
      moe_inner<T, W, S, T, 2048, 1408, 2816, 6, FORMAT, 64, 1, false, true, false>) \
      moe_inner<T, W, S, T, 2048, 1408, 2816, 6, FORMAT, 64, 1, false, true, false>; \
  template [[host_name("moe_outer_" #T "_" #FORMAT)]] [[kernel]] decltype( \
      moe_outer<T, W, S, 2048, 1408, 2816, 6, FORMAT, 64, false, true>) \
      moe_outer<T, W, S, 2048, 1408, 2816, 6, FORMAT, 64, false, true>;
#define ALL(T) \
  DECODE(T, T, T, 0) \
  DECODE(T, uint, T, 4) \
  DECODE(T, uint, T, 8)
ALL(float)
ALL(half)
ALL(bfloat)
