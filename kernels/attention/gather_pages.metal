// A sequence's pages as one array (heads, tokens, width) of T: codes become values on the way.
//
// A threadgroup takes one page of one head. Keys are stored (width, 32 tokens): they are turned in
// threadgroup memory, 32 dimensions at a time, so that both sides are read and written in whole
// lines. Values need no turning. Bytes: what is stored, once, and what is made of it, once. What no
// token has been stored in yet becomes 0, whatever it is.

#include <metal_stdlib>
using namespace metal;

constant constexpr int PAGE = 32;
constant constexpr int GROUP = 32;

// The value of 4 bits in a byte that has two; of 8 bits or more the code itself.
template <int PACK, typename K>
inline float code_of(K code, int high) {
  return PACK == 1 ? float(code) : float(uint(code) >> (4 * high) & 15u);
}

template <typename T, typename K, int PACK>
[[kernel]] void gather_keys(
    const device K* pool [[buffer(0)]],
    const device half* scales [[buffer(1)]],
    const device half* biases [[buffer(2)]],
    const device int* table [[buffer(3)]],
    const device float* token [[buffer(4)]],
    constant int& context [[buffer(5)]],
    constant int& width [[buffer(6)]],
    device T* out [[buffer(7)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threadgroups_per_grid [[threadgroups_per_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  int groups = (width + GROUP - 1) / GROUP;
  threadgroup float turned[GROUP * (PAGE + 1)];
  int lane = thread_index_in_simdgroup;
  int simd = simdgroup_index_in_threadgroup;
  int head = threadgroup_position_in_grid.y;
  int start = threadgroup_position_in_grid.x * PAGE;
  int tokens = threadgroups_per_grid.x * PAGE;
  ulong page = ulong(table[threadgroup_position_in_grid.x]) * threadgroups_per_grid.y + head;
  bool held = start + lane < context;
  for (int g = 0; g < groups; ++g) {
    int wide = min(GROUP, width - g * GROUP);
    float scale = 1;
    float bias = 0;
    if (sizeof(K) == 1) {
      scale = scales[(page * groups + g) * PAGE + lane];
      bias = PACK == 2 ? float(biases[(page * groups + g) * PAGE + lane]) : 0.0f;
    }
    for (int i = simd; i < wide / PACK; i += 4) {
      K code = held ? pool[(page * (width / PACK) + g * (GROUP / PACK) + i) * PAGE + lane] : K(0);
      for (int p = 0; p < PACK; ++p) {
        float value = held ? code_of<PACK>(code, p) * scale + bias : 0.0f;
        turned[(i + p * (wide / 2)) * (PAGE + 1) + lane] = value;
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = simd; i < PAGE; i += 4) {
      if (lane < wide) {
        T value = T(turned[lane * (PAGE + 1) + i]);
        out[(ulong(head) * tokens + start + i) * width + g * GROUP + lane] = value;
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}

template <typename T, typename K, int PACK>
[[kernel]] void gather_values(
    const device K* pool [[buffer(0)]],
    const device half* scales [[buffer(1)]],
    const device half* biases [[buffer(2)]],
    const device int* table [[buffer(3)]],
    const device float* token [[buffer(4)]],
    constant int& context [[buffer(5)]],
    constant int& width [[buffer(6)]],
    device T* out [[buffer(7)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threadgroups_per_grid [[threadgroups_per_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  int groups = (width + GROUP - 1) / GROUP;
  int lane = thread_index_in_simdgroup;
  int simd = simdgroup_index_in_threadgroup;
  int head = threadgroup_position_in_grid.y;
  int start = threadgroup_position_in_grid.x * PAGE;
  int tokens = threadgroups_per_grid.x * PAGE;
  ulong page = ulong(table[threadgroup_position_in_grid.x]) * threadgroups_per_grid.y + head;
  for (int i = simd; i < PAGE; i += 4) {
    bool held = start + i < context;
    for (int d = lane; d < width; d += 32) {
      int wide = min(GROUP, width - d / GROUP * GROUP);
      int half_of = wide / PACK;
      int stored = d / GROUP * (GROUP / PACK) + d % GROUP % half_of;
      float value = 0;
      if (held) {
        value = code_of<PACK>(pool[(page * PAGE + i) * (width / PACK) + stored], d % GROUP / half_of);
        if (sizeof(K) == 1) {
          ulong at = (page * PAGE + i) * groups + d / GROUP;
          value = value * float(scales[at]) + (PACK == 2 ? float(biases[at]) : 0.0f);
        }
      }
      out[(ulong(head) * tokens + start + i) * width + d] = T(value);
    }
  }
}

// instantiations
#define GATHER(name, kernel_name, T, K, pack)                                                      \
  template [[host_name(name)]] [[kernel]] decltype(kernel_name<T, K, pack>)                       \
      kernel_name<T, K, pack>;
GATHER("gather_keys_float", gather_keys, float, float, 1)
GATHER("gather_keys_half", gather_keys, half, half, 1)
GATHER("gather_keys_bfloat", gather_keys, bfloat, bfloat, 1)
GATHER("gather_keys_half_8", gather_keys, half, int8_t, 1)
GATHER("gather_keys_half_4", gather_keys, half, uint8_t, 2)
GATHER("gather_values_float", gather_values, float, float, 1)
GATHER("gather_values_half", gather_values, half, half, 1)
GATHER("gather_values_bfloat", gather_values, bfloat, bfloat, 1)
GATHER("gather_values_half_8", gather_values, half, int8_t, 1)
GATHER("gather_values_half_4", gather_values, half, uint8_t, 2)
