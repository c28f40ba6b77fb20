// A matrix times one vector: a simdgroup sums ROWS rows at once, so that it loads x once for them;
// SPLIT simdgroups take turns along the same rows where a matrix has too few to fill a GPU.
#pragma once
#include "activation.h"
#include "vector.h"

enum { ROWS = 4 };

// Results of a simdgroup: with a gate, half of its rows are of the gate and half of up.
template <int ACTIVATION>
constexpr uint tile_of() {
  return ACTIVATION ? ROWS / 2 : ROWS;
}

// The row that sums[r] is of; past the end the last row, whose sum is dropped.
template <int ACTIVATION>
inline size_t row_of(uint first, uint r, uint results) {
  constexpr uint tile = tile_of<ACTIVATION>();
  return size_t(min(first + r % tile, results - 1)) + r / tile * results;
}

// A run of x; with NORM times the norm's weight, its squares added up. The norm's other factor is
// the same for the whole row: `finish` multiplies the sums by it.
template <bool NORM, int COUNT, typename T, typename G>
inline void load_input(
    const device T* x, const device G* gain, uint k, thread float* values, thread float& squares) {
  load_values<COUNT>(x + k, values);
  if (NORM) {
    float gains[COUNT];
    load_values<COUNT>(gain + k, gains);
    for (int i = 0; i < COUNT; i++) {
      squares = fma(values[i], values[i], squares);
      values[i] *= gains[i];
    }
  }
}

// Over lanes, and over the simdgroups that share the rows: the totals, in every thread.
template <int SPLIT, int COUNT>
inline void reduce(thread float* sums, threadgroup float* parts, uint simdgroup, uint lane) {
  for (int i = 0; i < COUNT; i++) {
    sums[i] = simd_sum(sums[i]);
    if (SPLIT > 1 && lane == 0) {
      parts[simdgroup * COUNT + i] = sums[i];
    }
  }
  if (SPLIT > 1) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = 0; i < COUNT; i++) {
      sums[i] = 0;
      for (int s = 0; s < SPLIT; s++) {
        sums[i] += parts[s * COUNT + i];
      }
    }
  }
}

inline float pick(thread const float* sums, uint r) {
  float found = sums[0];
  for (uint i = 1; i < ROWS; i++) {
    found = r == i ? sums[i] : found;
  }
  return found;
}

// A lane for a result: the norm's factor, bias, activation, residual.
template <int ACTIVATION, bool BIAS, bool RESIDUAL, typename T>
inline void finish(
    thread const float* sums, float factor, const device T* bias, const device T* residual,
    float limit, uint first, uint results, uint lane, device T* y) {
  constexpr uint tile = tile_of<ACTIVATION>();
  uint row = first + lane;
  if (lane >= tile || row >= results) {
    return;
  }
  float value = factor * pick(sums, lane) + (BIAS ? float(bias[row]) : 0.0f);
  if (ACTIVATION) {
    float up = factor * pick(sums, tile + lane) + (BIAS ? float(bias[results + row]) : 0.0f);
    value = activated<ACTIVATION>(value, up, limit);
  }
  y[row] = T(value + (RESIDUAL ? float(residual[row]) : 0.0f));
}
