// What the splits of latent_attention found, joined: each by its share of the softmax's sum.
//
// Threads share a head's splits in up to four parts, each four values. Bytes: the splits' outputs
// once; their weights, 64 bytes a split and row, are read by every simdgroup from a cache.

#include <metal_stdlib>
using namespace metal;

constant constexpr float MASKED = -3.0e38f;  // as in latent_attention
constant constexpr int SHARES = 4;

template <typename T>
[[kernel]] void latent_merge(
    const device T* parts [[buffer(0)]],
    const device float* lse [[buffer(1)]],
    constant int& splits [[buffer(2)]],
    device T* out [[buffer(3)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threads_per_threadgroup [[threads_per_threadgroup]],
    uint3 threads_per_grid [[threads_per_grid]]) {
  threadgroup float4 totals[(SHARES - 1) * 128];
  threadgroup float sums[SHARES - 1];
  int width = threads_per_grid.x * 4;
  int shares = threads_per_threadgroup.y;
  int heads = threads_per_grid.y / shares;
  int at = thread_position_in_grid.x * 4;
  int share = thread_position_in_threadgroup.y;
  int head = threadgroup_position_in_grid.y;
  int row = thread_position_in_grid.z;
  float top = MASKED;
  for (int s = 0; s < splits; ++s) {
    top = precise::max(top, lse[(row * splits + s) * heads + head]);
  }
  float sum = 0;
  float4 total = 0;
  for (int s = share; s < splits; s += shares) {
    int from = (row * splits + s) * heads + head;
    float weight = fast::exp2(lse[from] - top);
    sum += weight;
    total += weight * float4(*(const device vec<T, 4>*)(parts + from * width + at));
  }
  int own = thread_position_in_threadgroup.x;
  if (share > 0) {
    totals[(share - 1) * 128 + own] = total;
    if (own == 0) {
      sums[share - 1] = sum;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (share == 0) {
    for (int i = 0; i < shares - 1; ++i) {
      total += totals[i * 128 + own];
      sum += sums[i];
    }
    *(device vec<T, 4>*)(out + (row * heads + head) * width + at) = vec<T, 4>(total / sum);
  }
}

// instantiations
#define LATENT_MERGE(T)                                                                            \
  template [[host_name("latent_merge_" #T)]] [[kernel]] decltype(latent_merge<T>) latent_merge<T>;
LATENT_MERGE(float)
LATENT_MERGE(half)
LATENT_MERGE(bfloat)
