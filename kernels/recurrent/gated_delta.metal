// The gated delta rule over the runs of a step: each run's state is read, changed by its tokens one
// after the other, and written once.
//
// Columns of a state do not mix. A simdgroup takes 16 of a head's columns for a whole run and keeps
// them in registers: 4 lanes share a row of the state, 4 columns each, and 8 such quarters have a
// stretch of the rows each, so that a sum over rows is 3 shuffles and nothing waits at a barrier.
// Least bytes: twice the state. q and k are read by every simdgroup of their heads, from caches.
#include <metal_stdlib>
using namespace metal;
#include "four.h"

constexpr constant uint COLUMNS = 16;
constexpr constant float NORM_EPS = 1e-6f;

// The sum over the 8 stretches, in each of them.
template <typename V>
inline V over_rows(V x) {
  x += simd_shuffle_xor(x, 4);
  x += simd_shuffle_xor(x, 8);
  return x + simd_shuffle_xor(x, 16);
}

// ROWS values of a key from `at` on; 0 beyond its end.
template <int ROWS, int KEYS, typename T>
inline void load_key(const device T* x, uint at, thread float* out) {
  if (ROWS % 4 == 0) {
    for (uint i = 0; i < ROWS; i += 4) {
      float4 four = load_four(x, at + i, KEYS);
      for (uint j = 0; j < 4; ++j) {
        out[i + j] = four[j];
      }
    }
  } else {
    for (uint i = 0; i < ROWS; ++i) {
      out[i] = at + i < KEYS ? float(x[at + i]) : 0.0f;
    }
  }
}

template <typename T, int KEYS, int VALUES, int SHARED, bool NORMALISE>
[[kernel]] void gated_delta(
    const device T* q [[buffer(0)]],
    const device T* k [[buffer(1)]],
    const device T* v [[buffer(2)]],
    const device float* g [[buffer(3)]],
    const device float* beta [[buffer(4)]],
    const device float* state [[buffer(5)]],
    const device int* runs [[buffer(6)]],
    constant float& scale [[buffer(7)]],
    device T* out [[buffer(8)]],
    device float* next [[buffer(9)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]],
    uint3 threads_per_grid [[threads_per_grid]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  constexpr uint ROWS = (KEYS + 7) / 8;
  const uint first = thread_index_in_simdgroup / 4 * ROWS;
  const uint column = thread_position_in_grid.x / 32 * COLUMNS + thread_index_in_simdgroup % 4 * 4;
  const uint head = thread_position_in_grid.y;
  const uint heads = threads_per_grid.y;
  const uint run = thread_position_in_grid.z;
  const device int* sequence = runs + 4 * run; // first row, last row, slot, whether it is fresh
  const device float* before = state + (size_t(sequence[2]) * heads + head) * KEYS * VALUES;
  float4 s[ROWS];
#pragma clang loop unroll(full)
  for (uint i = 0; i < ROWS; ++i) {
    s[i] = 0.0f;
    if (!sequence[3] && first + i < KEYS) {
      s[i] = load_four(before + (first + i) * VALUES, column, VALUES);
    }
  }
  for (int row = sequence[0]; row < sequence[1]; ++row) {
    const size_t gate = size_t(row) * heads + head;
    const size_t key = (size_t(row) * (heads / SHARED) + head / SHARED) * KEYS;
    float a[ROWS];
    float b[ROWS];
    load_key<ROWS, KEYS>(k + key, first, a);
    load_key<ROWS, KEYS>(q + key, first, b);
    const float decay = precise::exp(g[gate]);
    float2 rate = 0.0f;
    float4 known = 0.0f;
#pragma clang loop unroll(full)
    for (uint i = 0; i < ROWS; ++i) {
      rate += float2(a[i] * a[i], b[i] * b[i]);
      s[i] *= decay;
      known += s[i] * a[i];
    }
    rate = NORMALISE ? precise::rsqrt(over_rows(rate) + NORM_EPS) : float2(1.0f);
    const float4 value = load_four(v + gate * VALUES, column, VALUES);
    const float4 change = (value - over_rows(known) * rate.x) * (beta[gate] * rate.x);
    float4 sum = 0.0f;
#pragma clang loop unroll(full)
    for (uint i = 0; i < ROWS; ++i) {
      s[i] += a[i] * change;
      sum += s[i] * b[i];
    }
    sum = over_rows(sum) * (rate.y * scale);
    if (first == 0) {
      store_four(out + gate * VALUES, column, VALUES, sum);
    }
  }
  device float* after = next + (size_t(run) * heads + head) * KEYS * VALUES;
#pragma clang loop unroll(full)
  for (uint i = 0; i < ROWS; ++i) {
    if (first + i < KEYS) {
      store_four(after + (first + i) * VALUES, column, VALUES, s[i]);
    }
  }
}

// instantiations
#define GATED_DELTA(type)                                                                          \
  template [[host_name("gated_delta_" #type)]] [[kernel]] decltype(                                \
      gated_delta<type, 128, 128, 2, true>) gated_delta<type, 128, 128, 2, true>;
GATED_DELTA(float)
GATED_DELTA(half)
GATED_DELTA(bfloat)
