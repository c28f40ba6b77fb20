// A prompt's keys and values into the pool, where it is written in place: one simdgroup a row and
// key head.
//
// Keys of a page are far apart for one token, so a lane writes single codes; a prompt is few bytes
// beside the weights. No two rows have a slot in common. k: (rows, heads, D), v: (rows, heads, V);
// `token` only orders this behind earlier users of the pool, as `done` does for later ones.
#include <metal_stdlib>
using namespace metal;
#include "encode.h"

template <typename T, typename S, int BITS, int D, int V>
[[kernel]] void append_pages(
    const device float* k [[buffer(0)]],
    const device T* v [[buffer(1)]],
    const device int* slots [[buffer(2)]],
    const device S* keys [[buffer(3)]],
    const device S* values [[buffer(4)]],
    const device half* key_scales [[buffer(5)]],
    const device half* key_biases [[buffer(6)]],
    const device half* value_scales [[buffer(7)]],
    const device half* value_biases [[buffer(8)]],
    const device T* token [[buffer(9)]],
    device float* done [[buffer(10)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threadgroups_per_grid [[threadgroups_per_grid]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  constexpr int PER = BITS == 4 ? 2 : 1;
  constexpr int K_GROUPS = (D + GROUP - 1) / GROUP;
  constexpr int V_GROUPS = (V + GROUP - 1) / GROUP;
  threadgroup S codes[(D + V) / PER];
  threadgroup half scales[2 * (K_GROUPS + V_GROUPS)];
  const int lane = thread_index_in_simdgroup;
  const uint head = threadgroup_position_in_grid.y;
  const size_t row = threadgroup_position_in_grid.z * threadgroups_per_grid.y + head;
  for (int at = 0; at < D; at += GROUP) {
    const int width = min(int(GROUP), D - at);
    const float x = lane < width ? k[row * D + at + lane] : 0.0f;
    encode<BITS>(x, at / GROUP, width, codes, scales, K_GROUPS, lane);
  }
  for (int at = 0; at < V; at += GROUP) {
    const int width = min(int(GROUP), V - at);
    const float x = lane < width ? float(v[row * V + at + lane]) : 0.0f;
    encode<BITS>(
        x, at / GROUP, width, codes + D / PER, scales + 2 * K_GROUPS, V_GROUPS, lane);
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  const int slot = slots[threadgroup_position_in_grid.z];
  const size_t page = slot / PAGE * size_t(threadgroups_per_grid.y) + head;
  const int place = slot % PAGE;
  for (int i = lane; i < D / PER; i += 32) {
    ((device S*)keys)[(page * (D / PER) + i) * PAGE + place] = codes[i];
  }
  for (int i = lane; i < V / PER; i += 32) {
    ((device S*)values)[(page * PAGE + place) * (V / PER) + i] = codes[D / PER + i];
  }
  for (int i = lane; i < K_GROUPS && BITS; i += 32) {
    const size_t at = (page * K_GROUPS + i) * PAGE + place;
    ((device half*)key_scales)[at] = scales[i];
    if (BITS == 4) {
      ((device half*)key_biases)[at] = scales[K_GROUPS + i];
    }
  }
  for (int i = lane; i < V_GROUPS && BITS; i += 32) {
    const size_t at = (page * PAGE + place) * V_GROUPS + i;
    ((device half*)value_scales)[at] = scales[2 * K_GROUPS + i];
    if (BITS == 4) {
      ((device half*)value_biases)[at] = scales[2 * K_GROUPS + V_GROUPS + i];
    }
  }
  if (row == 0 && lane < 8) {
    done[lane] = 0;
  }
}

// instantiations
template [[host_name("append_pages_float")]] [[kernel]] decltype(
    append_pages<float, float, 0, 64, 64>) append_pages<float, float, 0, 64, 64>;
template [[host_name("append_pages_half")]] [[kernel]] decltype(
    append_pages<half, half, 0, 64, 64>) append_pages<half, half, 0, 64, 64>;
template [[host_name("append_pages_bfloat")]] [[kernel]] decltype(
    append_pages<bfloat, uchar, 4, 64, 64>) append_pages<bfloat, uchar, 4, 64, 64>;
