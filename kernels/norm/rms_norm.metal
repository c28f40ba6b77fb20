// Root mean square norm of rows, and where there is one (SUM) the residual stream added to it.
//
// A threadgroup takes a row; each thread a stretch of COUNT values, then the next one a whole
// threadgroup further. The second pass reads again what the same thread read, which lies in
// cache: a row is at most 32 KB of 16-bit values.
#include <metal_stdlib>
using namespace metal;
#include "vector.h"

template <int COUNT, typename V>
inline void store_values(thread const float* from, device V* to) {
  if (COUNT % 4 != 0) {
    for (int i = 0; i < COUNT; i++) {
      to[i] = V(from[i]);
    }
    return;
  }
  for (int i = 0; i < COUNT / 4; i++) {
    float4 part = float4(from[4 * i], from[4 * i + 1], from[4 * i + 2], from[4 * i + 3]);
    ((device vec<V, 4>*)to)[i] = vec<V, 4>(part);
  }
}

// The sum over a threadgroup, in every thread.
inline float over_threads(
    float sum, threadgroup float* parts, uint simdgroup, uint lane, uint simdgroups) {
  sum = simd_sum(sum);
  if (lane == 0) {
    parts[simdgroup] = sum;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_sum(lane < simdgroups ? parts[lane] : 0.0f);
}

template <bool SUM, int COUNT, typename T, typename G>
inline void scale_row(
    const device T* from, const device G* weight, const device T* residual, float factor,
    uint width, uint thread_index, uint threads, device T* to) {
  for (uint i = thread_index * COUNT; i < width; i += threads * COUNT) {
    float values[COUNT];
    float gains[COUNT];
    load_values<COUNT>(from + i, values);
    load_values<COUNT>(weight + i, gains);
    for (int j = 0; j < COUNT; j++) {
      values[j] *= factor * gains[j];
    }
    if (SUM) {
      float sums[COUNT];
      load_values<COUNT>(residual + i, sums);
      for (int j = 0; j < COUNT; j++) {
        values[j] = float(T(values[j])) + sums[j];
      }
    }
    store_values<COUNT>(values, to + i);
  }
}

template <typename T, typename G, int COUNT, bool SUM>
[[kernel]] void rms_norm(
    const device T* x [[buffer(0)]],
    const device G* weight [[buffer(1)]],
    const device T* residual [[buffer(2)]],
    constant float& eps [[buffer(3)]],
    constant int& width [[buffer(4)]],
    device T* y [[buffer(5)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threads_per_threadgroup [[threads_per_threadgroup]],
    uint simdgroups_per_threadgroup [[simdgroups_per_threadgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  threadgroup float parts[32];
  size_t row = size_t(threadgroup_position_in_grid.x) * width;
  uint threads = threads_per_threadgroup.x;
  float squares = 0;
  for (uint i = thread_index_in_threadgroup * COUNT; i < uint(width); i += threads * COUNT) {
    float values[COUNT];
    load_values<COUNT>(x + row + i, values);
    for (int j = 0; j < COUNT; j++) {
      squares = fma(values[j], values[j], squares);
    }
  }
  squares = over_threads(
      squares, parts, simdgroup_index_in_threadgroup, thread_index_in_simdgroup,
      simdgroups_per_threadgroup);
  float factor = precise::rsqrt(squares / float(width) + eps);
  scale_row<SUM, COUNT>(
      x + row, weight, residual + (SUM ? row : 0), factor, width, thread_index_in_threadgroup,
      threads, y + row);
}

// instantiations
#define instantiate(name, T, count, sum)                                  \
  template [[host_name(name)]] [[kernel]] decltype(rms_norm<T, T, count, sum>) \
      rms_norm<T, T, count, sum>;
instantiate("rms_norm_float", float, 4, false)
instantiate("rms_norm_half", half, 4, false)
instantiate("rms_norm_half_sum", half, 4, true)
instantiate("rms_norm_bfloat", bfloat, 4, false)
instantiate("rms_norm_half_odd", half, 1, false)
