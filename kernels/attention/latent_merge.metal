// What the splits of latent_attention found, joined: each by its share of the softmax's sum.
//
// A thread takes four values of a head. Bytes: the splits' outputs once; their weights, 64 bytes a
// split and row, are read by every simdgroup from a cache.

#include <metal_stdlib>
using namespace metal;

constant constexpr float MASKED = -3.0e38f;  // as in latent_attention

template <typename T>
[[kernel]] void latent_merge(
    const device T* parts [[buffer(0)]],
    const device float* lse [[buffer(1)]],
    constant int& splits [[buffer(2)]],
    device T* out [[buffer(3)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]],
    uint3 threads_per_grid [[threads_per_grid]]) {
  int width = threads_per_grid.x * 4;
  int heads = threads_per_grid.y;
  int at = thread_position_in_grid.x * 4;
  int head = thread_position_in_grid.y;
  int row = thread_position_in_grid.z;
  float top = MASKED;
  for (int s = 0; s < splits; ++s) {
    top = precise::max(top, lse[(row * splits + s) * heads + head]);
  }
  float sum = 0;
  float4 total = 0;
  for (int s = 0; s < splits; ++s) {
    int from = (row * splits + s) * heads + head;
    float weight = fast::exp2(lse[from] - top);
    sum += weight;
    total += weight * float4(*(const device vec<T, 4>*)(parts + from * width + at));
  }
  total /= sum;
  *(device vec<T, 4>*)(out + (row * heads + head) * width + at) = vec<T, 4>(total);
}

// instantiations
#define LATENT_MERGE(T)                                                                            \
  template [[host_name("latent_merge_" #T)]] [[kernel]] decltype(latent_merge<T>) latent_merge<T>;
LATENT_MERGE(float)
LATENT_MERGE(half)
LATENT_MERGE(bfloat)
