// Attention of decoding sequences, one token each: norms of heads, rotary positions, the token's
// key and value, all pages of its sequence.
//
// A threadgroup has a row, a key head and a split of the row's pages. The H query heads that share
// the key head (or, of more than fit into registers, as many blocks of threadgroups as needed) are
// worked on together, so that keys and values are loaded once: floor 2 * context * kv_heads *
// head_dim values. 128 threads, so that a batch of one has many threadgroups; what they share
// takes at most 12 KB. Only a row's last pages are handled with care for what is stored (EDGE).
#include <metal_stdlib>
using namespace metal;
#include "page_plain.h"
#include "attend.h"

// In place, the pool's constness is cast away; `token` only orders this behind earlier writers.
template <typename T, typename S, int D, int V, int G, int H, int MODE, bool SPLIT>
[[kernel]] void attention(
    const device T* qkv [[buffer(0)]],
    const device float* layer [[buffer(1)]],
    const device float* cos [[buffer(2)]],
    const device float* sin [[buffer(3)]],
    const device int* step [[buffer(4)]],
    const constant int* step_shape [[buffer(5)]],
    const device S* keys [[buffer(6)]],
    const device S* values [[buffer(7)]],
    const device T* token [[buffer(8)]],
    device T* out [[buffer(9)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threadgroups_per_grid [[threadgroups_per_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  typedef Page<S, D, V, H, MODE> P;
  typedef Attention<T, P, D, V, G, H, MODE, SPLIT> A;
  threadgroup Quad shared[A::SHARED];
  threadgroup S codes[P::ROWS + V / P::PER];
  const Arrays<const device S*> pool = {keys, values};
  A a = {};
  a.page.to = {(device S*)keys, (device S*)values};
  a.page.codes = codes;
  a.page.lane = thread_index_in_simdgroup;
  a.run(
      qkv, layer, cos, sin, step + threadgroup_position_in_grid.z * step_shape[1], pool, pool, out,
      shared, threadgroup_position_in_grid, threadgroups_per_grid, simdgroup_index_in_threadgroup);
}

template <typename T, typename S, int D, int V, int G, int H, bool SPLIT>
[[kernel]] void attention_tail(
    const device T* qkv [[buffer(0)]],
    const device float* layer [[buffer(1)]],
    const device float* cos [[buffer(2)]],
    const device float* sin [[buffer(3)]],
    const device int* step [[buffer(4)]],
    const constant int* step_shape [[buffer(5)]],
    const device S* keys [[buffer(6)]],
    const device S* values [[buffer(7)]],
    const device S* tail_keys [[buffer(8)]],
    const device S* tail_values [[buffer(9)]],
    device T* out [[buffer(10)]],
    device S* new_keys [[buffer(11)]],
    device S* new_values [[buffer(12)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threadgroups_per_grid [[threadgroups_per_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  typedef Page<S, D, V, H, TAIL> P;
  typedef Attention<T, P, D, V, G, H, TAIL, SPLIT> A;
  threadgroup Quad shared[A::SHARED];
  threadgroup S codes[P::ROWS + V / P::PER];
  const Arrays<const device S*> pool = {keys, values};
  const Arrays<const device S*> tail = {tail_keys, tail_values};
  A a = {};
  a.page.to = {new_keys, new_values};
  a.page.codes = codes;
  a.page.lane = thread_index_in_simdgroup;
  a.run(
      qkv, layer, cos, sin, step + threadgroup_position_in_grid.z * step_shape[1], pool, tail, out,
      shared, threadgroup_position_in_grid, threadgroups_per_grid, simdgroup_index_in_threadgroup);
}

// instantiations
template [[host_name("attention_float")]] [[kernel]] decltype(
    attention<float, float, 64, 64, 4, 4, IN_PLACE, false>)
    attention<float, float, 64, 64, 4, 4, IN_PLACE, false>;
template [[host_name("attention_half")]] [[kernel]] decltype(
    attention<half, half, 128, 128, 8, 8, READ, true>)
    attention<half, half, 128, 128, 8, 8, READ, true>;
template [[host_name("attention_bfloat")]] [[kernel]] decltype(
    attention<bfloat, bfloat, 256, 256, 4, 4, IN_PLACE, true>)
    attention<bfloat, bfloat, 256, 256, 4, 4, IN_PLACE, true>;
template [[host_name("attention_tail_half")]] [[kernel]] decltype(
    attention_tail<half, half, 64, 64, 4, 4, true>)
    attention_tail<half, half, 64, 64, 4, 4, true>;
