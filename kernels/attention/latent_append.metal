// New latents into pages in place: normalized, turned, rounded, one column of a page a row.
//
// A threadgroup takes a row and each of its simdgroups 32 dimensions, a lane one, which is what
// shares a scale. Bytes: the latents and what is stored of them; the norm's sum is taken by every
// simdgroup for itself, since the row is small. The next launch on the pool must take `done`.

#include <metal_stdlib>
using namespace metal;

constant constexpr int PAGE = 32;
constant constexpr int GROUP = 32;
constant constexpr int TOKEN = 8;

template <
    typename T, typename K, int D, int V, int PACK, int FROM, int PAIRS, bool INTERLEAVED,
    bool NORM>
[[kernel]] void latent_append(
    const device T* latent [[buffer(0)]],
    const device float* norm [[buffer(1)]],
    const device float* cosines [[buffer(2)]],
    const device float* sines [[buffer(3)]],
    const device K* pool [[buffer(4)]],
    const device half* pool_scales [[buffer(5)]],
    const device half* pool_biases [[buffer(6)]],
    const device int* slots [[buffer(7)]],
    const device float* token [[buffer(8)]],
    constant float& eps [[buffer(9)]],
    device float* done [[buffer(10)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  int row = threadgroup_position_in_grid.y;
  int d = thread_index_in_threadgroup;
  int lane = d % 32;
  const device T* x = latent + row * D;
  float value = x[d];
  int turn = d - FROM;
  if (turn >= 0 && turn < 2 * PAIRS) {
    bool second = INTERLEAVED ? turn % 2 : turn >= PAIRS;
    int apart = INTERLEAVED ? 1 : PAIRS;
    int pair = INTERLEAVED ? turn / 2 : turn - (second ? PAIRS : 0);
    float other = x[second ? d - apart : d + apart];
    float sine = sines[row * PAIRS + pair];
    value = value * cosines[row * PAIRS + pair] + (second ? other * sine : -other * sine);
  }
  if (NORM) {
    float squares = 0;
    for (int i = lane; i < V; i += 32) {
      squares += float(x[i]) * float(x[i]);
    }
    float gain = precise::rsqrt(simd_sum(squares) / V + eps);
    value *= d < V ? gain * norm[d] : 1.0f;
  }
  int page = slots[row] / PAGE;
  int place = slots[row] % PAGE;
  if (sizeof(K) == 1) {
    float top = simd_max(PACK == 2 ? value : abs(value));
    half base = PACK == 2 ? half(simd_min(value)) : half(0);
    half unit = half((top - float(base)) / (PACK == 2 ? 15.0f : 127.0f));
    float code = unit == 0 ? 0.0f : rint((value - float(base)) / float(unit));
    value = PACK == 2 ? precise::clamp(code, 0.0f, 15.0f) : precise::clamp(code, -127.0f, 127.0f);
    if (lane == 0) {
      int at = (page * (D / GROUP) + d / GROUP) * PAGE + place;
      ((device half*)pool_scales)[at] = unit;
      if (PACK == 2) {
        ((device half*)pool_biases)[at] = base;
      }
    }
    float high = simd_shuffle_down(value, 16);
    value = PACK == 2 ? value + 16 * high : value;
  }
  if (PACK == 1 || lane < 16) {
    int stored = PACK == 1 ? d : d / 32 * 16 + lane;
    ((device K*)pool)[(ulong(page) * (D / PACK) + stored) * PAGE + place] = K(value);
  }
  if (d < TOKEN) {
    done[row * TOKEN + d] = 0;
  }
}

// instantiations
#define LATENT_APPEND(name, T, K, pack)                                                            \
  template [[host_name(name)]] [[kernel]] decltype(                                                \
      latent_append<T, K, 576, 512, pack, 512, 32, true, true>)                                    \
      latent_append<T, K, 576, 512, pack, 512, 32, true, true>;
LATENT_APPEND("latent_append_float", float, float, 1)
LATENT_APPEND("latent_append_half", half, half, 1)
LATENT_APPEND("latent_append_bfloat", bfloat, bfloat, 1)
LATENT_APPEND("latent_append_half_8", half, int8_t, 1)
LATENT_APPEND("latent_append_half_4", half, uint8_t, 2)
