// What the splits of a context found, brought together: a threadgroup a row and head.
//
// A part is V values, divided by their total weight, then two floats: the highest score, in
// powers of two, and the total. parts: (rows, heads, splits, V + 4). Up to 8 simdgroups take
// splits in turns, 32 at a time, so that a lane has one's top and total; all is loaded once.
#include <metal_stdlib>
using namespace metal;

constant constexpr float LOWEST = -3.0e38f;
constant constexpr int MERGERS = 8;

template <typename T, int V>
[[kernel]] void attention_merge(
    const device T* parts [[buffer(0)]],
    const constant int* parts_shape [[buffer(1)]],
    const device float* layer [[buffer(2)]],
    constant int& sinks [[buffer(3)]],
    device T* out [[buffer(4)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threadgroups_per_grid [[threadgroups_per_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups_per_threadgroup [[simdgroups_per_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  threadgroup float2 found[MERGERS];
  threadgroup float4 sums[MERGERS * (V / 4)];
  const int lane = thread_index_in_simdgroup;
  const int simd = simdgroup_index_in_threadgroup;
  const int simds = simdgroups_per_threadgroup;
  const uint head = threadgroup_position_in_grid.y;
  const size_t row = threadgroup_position_in_grid.z * size_t(threadgroups_per_grid.y) + head;
  const int splits = parts_shape[2];
  const device T* mine = parts + row * splits * (V + 4);
  float top = LOWEST;
  float total = 0;
  float4 sum[(V + 127) / 128] = {};
  for (int first = simd; first < splits; first += 32 * simds) {
    const int own = first + lane * simds;
    float2 part = float2(LOWEST, 0.0f);
    if (own < splits) {
      part = *(const device float2*)(mine + own * (V + 4) + V);
    }
    const float new_top = precise::max(top, simd_max(part.x));
    const float factor = fast::exp2(top - new_top);
    const float weight = fast::exp2(part.x - new_top) * part.y;
    top = new_top;
    total = total * factor + weight;
    for (int at = 4 * lane; at < V; at += 128) {
      sum[at / 128] *= factor;
    }
    for (int i = 0; i < 32 && first + i * simds < splits; i++) {
      const float share = simd_shuffle(weight, ushort(i));
      const device T* values = mine + (first + i * simds) * (V + 4);
      for (int at = 4 * lane; at < V; at += 128) {
        sum[at / 128] += share * float4(*(const device vec<T, 4>*)(values + at));
      }
    }
  }
  total = simd_sum(total);
  if (lane == 0) {
    found[simd] = float2(top, total);
  }
  for (int at = 4 * lane; at < V; at += 128) {
    sums[simd * (V / 4) + at / 4] = sum[at / 128];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float sink = sinks > 0 ? layer[sinks + head] * M_LOG2E_F : LOWEST;
  float highest = sink;
  for (int i = 0; i < simds; i++) {
    highest = precise::max(highest, found[i].x);
  }
  float all = fast::exp2(sink - highest);  // 1 where nothing has been seen
  for (int i = 0; i < simds; i++) {
    all += fast::exp2(found[i].x - highest) * found[i].y;
  }
  for (int at = simd * 32 + lane; at < V / 4; at += 32 * simds) {
    float4 value = float4(0.0f);
    for (int i = 0; i < simds; i++) {
      value += fast::exp2(found[i].x - highest) * sums[i * (V / 4) + at];
    }
    *(device vec<T, 4>*)(out + row * V + 4 * at) = vec<T, 4>(value / all);
  }
}

// instantiations
template [[host_name("attention_merge_float")]] [[kernel]] decltype(attention_merge<float, 64>)
    attention_merge<float, 64>;
template [[host_name("attention_merge_half")]] [[kernel]] decltype(attention_merge<half, 64>)
    attention_merge<half, 64>;
template [[host_name("attention_merge_bfloat")]] [[kernel]] decltype(attention_merge<bfloat, 64>)
    attention_merge<bfloat, 64>;
