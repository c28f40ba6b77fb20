// The router of a mixture of experts: logits, and the experts and weights that they stand for.
//
// One threadgroup a token. In `choose` each simdgroup takes four of the router's rows at a time, so
// that x, which comes from the cache, is read once for four, and the weight once at all: the floor
// is its bytes. The token's norm is one factor of every logit, found by each simdgroup as it reads
// x. The first simdgroup then chooses from threadgroup memory. With many tokens the weight would
// be read anew for each of them; a product over all tokens and `route` are for that.
#include <metal_stdlib>
using namespace metal;
#include "choice.h"
#include "weight.h"

template <
    typename T,
    typename W,
    typename S,
    typename N,
    int HIDDEN,
    int EXPERTS,
    int FORMAT,
    int GROUP,
    bool NORMED>
[[kernel]] void choose(
    const device T* x [[buffer(0)]],
    const device W* weight [[buffer(1)]],
    const device S* scales [[buffer(2)]],
    const device Bias<S>* biases [[buffer(3)]],
    const device N* norm_weight [[buffer(4)]],
    constant float& eps [[buffer(5)]],
    const device float* correction [[buffer(6)]],
    const device int* rules [[buffer(7)]],
    constant float& scale [[buffer(8)]],
    device int* indices [[buffer(9)]],
    device float* weights [[buffer(10)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups_per_threadgroup [[simdgroups_per_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  constexpr uint ROWS = 4;
  constexpr int RUN = length_of<FORMAT>();
  threadgroup float logits[EXPERTS];
  threadgroup float choices[EXPERTS];
  uint lane = thread_index_in_simdgroup;
  uint token = threadgroup_position_in_grid.y;
  uint step = simdgroups_per_threadgroup * ROWS;
  for (uint start = simdgroup_index_in_threadgroup * ROWS; start < EXPERTS; start += step) {
    uint row = min(start, uint(EXPERTS - ROWS));
    Rows<W, S> rows = from_row<FORMAT, GROUP>(Rows<W, S>{weight, scales, biases}, row, HIDDEN);
    float sums[ROWS] = {0};
    float squares = 0;
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
      float sums_of_x[parts_of<GROUP, RUN>()];
      prepare<FORMAT, GROUP, RUN>(values, sums_of_x);
      for (uint r = 0; r < ROWS; r++) {
        sums[r] += along<FORMAT, GROUP>(rows, r, HIDDEN, first, values, sums_of_x);
      }
    }
    float factor = NORMED ? precise::rsqrt(simd_sum(squares) / HIDDEN + eps) : 1.0f;
    for (uint r = 0; r < ROWS; r++) {
      float logit = simd_sum(sums[r]) * factor;
      if (lane == 0 && row + r >= start) {
        logits[row + r] = logit;
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup_index_in_threadgroup == 0) {
    uint place = token * rules[PICKS];
    choose_experts<EXPERTS>(
        logits, choices, correction, rules, scale, lane, indices + place, weights + place);
  }
}

template <typename T, int EXPERTS>
[[kernel]] void route(
    const device T* logits [[buffer(0)]],
    const device float* correction [[buffer(1)]],
    const device int* rules [[buffer(2)]],
    constant float& scale [[buffer(3)]],
    device int* indices [[buffer(4)]],
    device float* weights [[buffer(5)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  threadgroup float scores[EXPERTS];
  threadgroup float choices[EXPERTS];
  uint lane = thread_index_in_simdgroup;
  uint token = threadgroup_position_in_grid.y;
  for (uint expert = lane; expert < EXPERTS; expert += 32) {
    scores[expert] = float(logits[token * EXPERTS + expert]);
  }
  uint place = token * rules[PICKS];
  choose_experts<EXPERTS>(
      scores, choices, correction, rules, scale, lane, indices + place, weights + place);
}

// instantiations
#define CHOOSE(T, W, S, FORMAT, GROUP) \
  template [[host_name("choose_" #T "_" #W "_" #S "_" #FORMAT)]] [[kernel]] decltype( \
      choose<T, W, S, T, 2048, 128, FORMAT, GROUP, true>) \
      choose<T, W, S, T, 2048, 128, FORMAT, GROUP, true>;
#define ROUTE(T) \
  template [[host_name("route_" #T)]] [[kernel]] decltype(route<T, 128>) route<T, 128>;
#define BOTH(T) \
  CHOOSE(T, T, T, 0, 32) \
  CHOOSE(T, uint, T, 8, 64) \
  CHOOSE(T, uint, T, 4, 64) \
  ROUTE(T)
BOTH(float)
BOTH(half)
BOTH(bfloat)
