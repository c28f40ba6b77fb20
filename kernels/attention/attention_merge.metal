// What the splits of a context found, brought together: one simdgroup a row and head.
//
// A part is V values, divided by their total weight, then two floats: the highest score, in
// powers of two, and the total. parts: (rows, heads, splits, V + 4), at most 32 splits, so that a
// lane has one's top and total; all is loaded once.
#include <metal_stdlib>
using namespace metal;

template <typename T, int V>
[[kernel]] void attention_merge(
    const device T* parts [[buffer(0)]],
    const constant int* parts_shape [[buffer(1)]],
    const device float* layer [[buffer(2)]],
    constant int& sinks [[buffer(3)]],
    device T* out [[buffer(4)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threadgroups_per_grid [[threadgroups_per_grid]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  const int lane = thread_index_in_simdgroup;
  const uint head = threadgroup_position_in_grid.y;
  const size_t row = threadgroup_position_in_grid.z * size_t(threadgroups_per_grid.y) + head;
  const int splits = parts_shape[2];
  const device T* mine = parts + row * splits * (V + 4);
  float2 found = float2(-3.0e38f, 0.0f);
  if (lane < splits) {
    found = *(const device float2*)(mine + lane * (V + 4) + V);
  }
  float top = simd_max(found.x);
  float sink = sinks > 0 ? layer[sinks + head] * 1.44269504f : -3.0e38f;
  top = precise::max(top, sink);
  float weight = fast::exp2(found.x - top) * found.y;
  const float total = simd_sum(weight + (lane == 31 ? fast::exp2(sink - top) : 0.0f));
  weight /= total;  // which is at least 1: the highest's own
  for (int start = 0; start < V; start += 128) {
    const int at = start + 4 * lane;
    float4 sum = float4(0.0f);
    for (int split = 0; split < splits; split++) {
      const float factor = simd_shuffle(weight, ushort(split));
      if (at < V) {
        sum += factor * float4(*(const device vec<T, 4>*)(mine + split * (V + 4) + at));
      }
    }
    if (at < V) {
      *(device vec<T, 4>*)(out + row * V + at) = vec<T, 4>(sum);
    }
  }
}

// instantiations
template [[host_name("attention_merge_float")]] [[kernel]] decltype(attention_merge<float, 64>)
    attention_merge<float, 64>;
template [[host_name("attention_merge_half")]] [[kernel]] decltype(attention_merge<half, 64>)
    attention_merge<half, 64>;
template [[host_name("attention_merge_bfloat")]] [[kernel]] decltype(attention_merge<bfloat, 64>)
    attention_merge<bfloat, 64>;
