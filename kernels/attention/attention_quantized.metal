// Attention of decoding sequences, as in attention.metal, over quantized pages.
//
// The floor is the pages' codes and scales, once.
#include <metal_stdlib>
using namespace metal;
#include "page_quantized.h"
#include "attend.h"

// In place, the pool's constness is cast away; `token` only orders this behind earlier writers.
template <typename T, typename S, int BITS, int D, int V, int G, int H, int MODE, bool SPLIT>
[[kernel]] void attention_quantized(
    const device T* qkv [[buffer(0)]],
    const device float* layer [[buffer(1)]],
    const device float* cos [[buffer(2)]],
    const device float* sin [[buffer(3)]],
    const device int* step [[buffer(4)]],
    const constant int* step_shape [[buffer(5)]],
    const device S* keys [[buffer(6)]],
    const device S* values [[buffer(7)]],
    const device half* key_scales [[buffer(8)]],
    const device half* key_biases [[buffer(9)]],
    const device half* value_scales [[buffer(10)]],
    const device half* value_biases [[buffer(11)]],
    const device T* token [[buffer(12)]],
    device T* out [[buffer(13)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threadgroups_per_grid [[threadgroups_per_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  typedef Page<S, BITS, D, V, H, MODE> P;
  typedef Attention<T, P, D, V, G, H, MODE, SPLIT> A;
  threadgroup Quad shared[A::SHARED];
  threadgroup S codes[P::ROWS + V / P::PER];
  threadgroup half scales[2 * (P::K_GROUPS + P::V_GROUPS)];
  const Arrays<const device S*, const device half*> pool = {
      keys, values, key_scales, key_biases, value_scales, value_biases};
  A a = {};
  a.page.to = {
      (device S*)keys, (device S*)values, (device half*)key_scales, (device half*)key_biases,
      (device half*)value_scales, (device half*)value_biases};
  a.page.codes = codes;
  a.page.scales = scales;
  a.page.lane = thread_index_in_simdgroup;
  a.run(
      qkv, layer, cos, sin, step + threadgroup_position_in_grid.z * step_shape[1], pool, pool, out,
      shared, threadgroup_position_in_grid, threadgroups_per_grid, simdgroup_index_in_threadgroup);
}

template <typename T, typename S, int BITS, int D, int V, int G, int H, bool SPLIT>
[[kernel]] void attention_quantized_tail(
    const device T* qkv [[buffer(0)]],
    const device float* layer [[buffer(1)]],
    const device float* cos [[buffer(2)]],
    const device float* sin [[buffer(3)]],
    const device int* step [[buffer(4)]],
    const constant int* step_shape [[buffer(5)]],
    const device S* keys [[buffer(6)]],
    const device S* values [[buffer(7)]],
    const device half* key_scales [[buffer(8)]],
    const device half* key_biases [[buffer(9)]],
    const device half* value_scales [[buffer(10)]],
    const device half* value_biases [[buffer(11)]],
    const device S* tail_keys [[buffer(12)]],
    const device S* tail_values [[buffer(13)]],
    const device half* tail_key_scales [[buffer(14)]],
    const device half* tail_key_biases [[buffer(15)]],
    const device half* tail_value_scales [[buffer(16)]],
    const device half* tail_value_biases [[buffer(17)]],
    device T* out [[buffer(18)]],
    device S* new_keys [[buffer(19)]],
    device S* new_values [[buffer(20)]],
    device half* new_key_scales [[buffer(21)]],
    device half* new_key_biases [[buffer(22)]],
    device half* new_value_scales [[buffer(23)]],
    device half* new_value_biases [[buffer(24)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threadgroups_per_grid [[threadgroups_per_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  typedef Page<S, BITS, D, V, H, TAIL> P;
  typedef Attention<T, P, D, V, G, H, TAIL, SPLIT> A;
  threadgroup Quad shared[A::SHARED];
  threadgroup S codes[P::ROWS + V / P::PER];
  threadgroup half scales[2 * (P::K_GROUPS + P::V_GROUPS)];
  const Arrays<const device S*, const device half*> pool = {
      keys, values, key_scales, key_biases, value_scales, value_biases};
  const Arrays<const device S*, const device half*> tail = {
      tail_keys, tail_values, tail_key_scales, tail_key_biases, tail_value_scales,
      tail_value_biases};
  A a = {};
  a.page.to = {
      new_keys, new_values, new_key_scales, new_key_biases, new_value_scales, new_value_biases};
  a.page.codes = codes;
  a.page.scales = scales;
  a.page.lane = thread_index_in_simdgroup;
  a.run(
      qkv, layer, cos, sin, step + threadgroup_position_in_grid.z * step_shape[1], pool, tail, out,
      shared, threadgroup_position_in_grid, threadgroups_per_grid, simdgroup_index_in_threadgroup);
}

// instantiations
template [[host_name("attention_quantized_float")]] [[kernel]] decltype(
    attention_quantized<float, char, 8, 64, 64, 4, 4, IN_PLACE, false>)
    attention_quantized<float, char, 8, 64, 64, 4, 4, IN_PLACE, false>;
template [[host_name("attention_quantized_half")]] [[kernel]] decltype(
    attention_quantized<half, uchar, 4, 128, 128, 8, 8, READ, true>)
    attention_quantized<half, uchar, 4, 128, 128, 8, 8, READ, true>;
template [[host_name("attention_quantized_tail_bfloat")]] [[kernel]] decltype(
    attention_quantized_tail<bfloat, uchar, 4, 64, 64, 4, 4, true>)
    attention_quantized_tail<bfloat, uchar, 4, 64, 64, 4, 4, true>;
