// The selective scan of Mamba 2 over the runs of a step: each run's state is read, changed by its
// tokens one after the other, and written once.
//
// Rows of a state do not mix. A simdgroup takes 4 * ROWS of a head's rows for a whole run and keeps
// them in registers: 8 lanes share ROWS rows, of which each has 4 columns in every 32, so that a
// sum over columns is 3 shuffles and nothing waits at a barrier.
// Least bytes: twice the state. b and c are read by every simdgroup of their heads, from caches.
#include <metal_stdlib>
using namespace metal;
#include "four.h"

// The sum over the lanes of a row, in each of them.
inline float over_columns(float4 x) {
  float sum = (x[0] + x[1]) + (x[2] + x[3]);
  sum += simd_shuffle_xor(sum, 1);
  sum += simd_shuffle_xor(sum, 2);
  return sum + simd_shuffle_xor(sum, 4);
}

// log(1 + e^x), from the series of the area tangent: nothing small is added to 1 and lost, however
// a compiler regroups it. The first term left out is 1.4e-9 of the sum.
inline float softplus(float x) {
  const float e = precise::exp(-abs(x));
  const float s = e / (2.0f + e);
  const float q = s * s;
  float series = 1.0f / 15.0f;
  for (int n = 13; n > 0; n -= 2) {
    series = series * q + 1.0f / float(n);
  }
  return precise::max(x, 0.0f) + 2.0f * s * series;
}

// As Metal's clamp, but NaN of NaN.
inline float cut(float x, float min_step, float max_step) {
  return x < min_step ? min_step : x > max_step ? max_step : x;
}

template <typename T, int DIM, int WIDTH, int SHARED, int ROWS>
[[kernel]] void ssm_scan(
    const device T* x [[buffer(0)]],
    const device T* b [[buffer(1)]],
    const device T* c [[buffer(2)]],
    const device T* dt [[buffer(3)]],
    const device float* dt_bias [[buffer(4)]],
    const device float* a [[buffer(5)]],
    const device float* d [[buffer(6)]],
    const device float* state [[buffer(7)]],
    const device int* runs [[buffer(8)]],
    constant float& min_step [[buffer(9)]],
    constant float& max_step [[buffer(10)]],
    device T* out [[buffer(11)]],
    device float* next [[buffer(12)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]],
    uint3 threads_per_grid [[threads_per_grid]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  constexpr uint PARTS = (WIDTH + 31) / 32;
  const uint lane = thread_index_in_simdgroup % 8;
  const uint column = 4 * lane; // of every part
  const uint first = thread_position_in_grid.x / 8 * ROWS;
  const uint head = thread_position_in_grid.y;
  const uint heads = threads_per_grid.y;
  const uint run = thread_position_in_grid.z;
  const device int* sequence = runs + 4 * run; // first row, last row, slot, whether it is fresh
  const device float* before = state + (size_t(sequence[2]) * heads + head) * DIM * WIDTH;
  float4 s[ROWS][PARTS];
#pragma clang loop unroll(full)
  for (uint r = 0; r < ROWS; ++r) {
#pragma clang loop unroll(full)
    for (uint j = 0; j < PARTS; ++j) {
      s[r][j] = 0.0f;
      if (!sequence[3] && first + r < DIM) {
        s[r][j] = load_four(before + (first + r) * WIDTH, 32 * j + column, WIDTH);
      }
    }
  }
  for (int row = sequence[0]; row < sequence[1]; ++row) {
    const size_t gate = size_t(row) * heads + head;
    const size_t key = (size_t(row) * (heads / SHARED) + head / SHARED) * WIDTH;
    const float step = cut(softplus(float(dt[gate]) + dt_bias[head]), min_step, max_step);
    const float decay = precise::exp(step * a[head]);
    float4 in[PARTS];
    float4 seen[PARTS];
#pragma clang loop unroll(full)
    for (uint j = 0; j < PARTS; ++j) {
      in[j] = load_four(b + key, 32 * j + column, WIDTH);
      seen[j] = load_four(c + key, 32 * j + column, WIDTH);
    }
    float result = 0.0f; // of the lane's own row
#pragma clang loop unroll(full)
    for (uint r = 0; r < ROWS; ++r) {
      const float value = first + r < DIM ? float(x[gate * DIM + first + r]) : 0.0f;
      float4 sum = 0.0f;
#pragma clang loop unroll(full)
      for (uint j = 0; j < PARTS; ++j) {
        s[r][j] = s[r][j] * decay + in[j] * (step * value);
        sum += s[r][j] * seen[j];
      }
      const float total = over_columns(sum) + d[head] * value;
      result = lane == r ? total : result;
    }
    if (lane < ROWS && first + lane < DIM) {
      out[gate * DIM + first + lane] = T(result);
    }
  }
  device float* after = next + (size_t(run) * heads + head) * DIM * WIDTH;
#pragma clang loop unroll(full)
  for (uint r = 0; r < ROWS; ++r) {
    if (first + r < DIM) {
#pragma clang loop unroll(full)
      for (uint j = 0; j < PARTS; ++j) {
        store_four(after + (first + r) * WIDTH, 32 * j + column, WIDTH, s[r][j]);
      }
    }
  }
}

// instantiations
#define SSM_SCAN(type)                                                                             \
  template [[host_name("ssm_scan_" #type)]] [[kernel]] decltype(                                   \
      ssm_scan<type, 64, 128, 16, 4>) ssm_scan<type, 64, 128, 16, 4>;
SSM_SCAN(float)
SSM_SCAN(half)
SSM_SCAN(bfloat)
