// Log probabilities of a row's logits: of one token, and of the likeliest with their ids.
//
// A threadgroup takes a row. Pass 1 finds the largest logit, the sum of the exponentials against
// each thread's largest so far, and a logit that a few hundred tokens reach; pass 2 lists those,
// which are then sorted. Where they are too many (equal logits) or too few, each rank takes a pass.
// Least bytes: the logits once. Moved: twice, or once where no ranks are wanted.
#include <metal_stdlib>
using namespace metal;
#include "rank.h"

template <typename T>
[[kernel]] void logprobs(
    const device T* logits [[buffer(0)]],
    const device int* rows [[buffer(1)]],
    const device int* tokens [[buffer(2)]],
    constant int& vocabulary [[buffer(3)]],
    constant int& most [[buffer(4)]],
    device float* chosen [[buffer(5)]],
    device int* ids [[buffer(6)]],
    device float* scores [[buffer(7)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup ulong items[MOST];
  threadgroup uint parts[4 * SIMDS];
  threadgroup float sums[SIMDS];
  threadgroup atomic_uint count[1];
  const uint index = thread_index_in_threadgroup;
  const uint lane = thread_index_in_simdgroup;
  const uint simd = simdgroup_index_in_threadgroup;
  const uint pick = threadgroup_position_in_grid.x;
  const uint size = uint(vocabulary);
  const uint top_count = uint(most);
  const device T* row = logits + size_t(rows[pick]) * size;
  if (index == 0) {
    atomic_store_explicit(count, 0, memory_order_relaxed);
  }
  float v[EACH];
  Peak mine = {0, 0, 0, false};
  float largest = -INFINITY;
  float sum = 0;
  for (uint at = index * EACH; at < size; at += THREADS * EACH) {
    load_each(row, size, at, v);
    float last = largest;
    for (uint i = 0; i < EACH; ++i) {
      mine.broken = mine.broken || isnan(v[i]);
      mine.key = max(mine.key, key_of(v[i]));
      largest = precise::max(largest, v[i]);
    }
    if (largest > -INFINITY) {
      sum *= precise::exp(last - largest);
      for (uint i = 0; i < EACH; ++i) {
        sum += precise::exp(v[i] - largest);
      }
    }
  }
  Peak peak = peak_of(mine, size, parts, lane, simd);
  const float top = value_of(peak.key);
  sum = simd_sum(sum * precise::exp(largest - top));
  if (lane == 0) {
    sums[simd] = sum;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum = 0;
  for (uint i = 0; i < SIMDS; ++i) {
    sum += sums[i];
  }
  const float log_sum = peak.broken ? NAN : isinf(top) ? top : top + precise::log(sum);
  if (index == 0) {
    chosen[pick] = float(row[max(tokens[pick], 0)]) - log_sum;
  }
  if (top_count > 0) {
    for (uint at = index * EACH; at < size; at += THREADS * EACH) {
      load_each(row, size, at, v);
      for (uint i = 0; i < EACH; ++i) {
        uint key = key_of(v[i]);
        if (key >= peak.reached && at + i < size) {
          list_item(items, count, key, at + i);
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint listed = atomic_load_explicit(count, memory_order_relaxed);
    if (listed >= top_count && listed <= MOST) {
      rank_items(items, listed, index);
      for (uint i = index; i < top_count; i += THREADS) {
        ids[pick * top_count + i] = int(~uint(items[i]));
        scores[pick * top_count + i] = value_of(uint(items[i] >> 32)) - log_sum;
      }
    } else {
      ulong last = ~ulong(0);
      for (uint rank = 0; rank < top_count; ++rank) {
        mine.key = 0;
        mine.id = 0;
        for (uint at = index * EACH; at < size; at += THREADS * EACH) {
          load_each(row, size, at, v);
          for (uint i = 0; i < EACH; ++i) {
            uint key = key_of(v[i]);
            if (at + i < size && key > mine.key && candidate(key, at + i) < last) {
              mine.key = key;
              mine.id = at + i;
            }
          }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        Peak next = peak_of(mine, size, parts, lane, simd);
        last = candidate(next.key, next.id);
        if (index == 0) {
          ids[pick * top_count + rank] = int(next.id);
          scores[pick * top_count + rank] = value_of(next.key) - log_sum;
        }
      }
    }
  }
}

// instantiations
#define LOGPROBS(type)                                                                             \
  template [[host_name("logprobs_" #type)]] [[kernel]] decltype(logprobs<type>) logprobs<type>;
LOGPROBS(float)
LOGPROBS(half)
LOGPROBS(bfloat)
