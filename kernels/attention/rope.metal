// Rotary positions applied to the heads of rows: each pair of dimensions turned, the others copied.
//
// A thread turns a pair, or copies one of the dimensions that the table has no pairs for. It is
// computed in float32, and rounded once. Bytes: x and y once, the table once a head (from caches).
#include <metal_stdlib>
using namespace metal;

// A pair is neighbours where INTERLEAVED, else `pairs` apart; the first is at `start`.
template <typename T, bool INTERLEAVED>
[[kernel]] void rope(
    const device T* x [[buffer(0)]],
    const device float* cos_table [[buffer(1)]],
    const device float* sin_table [[buffer(2)]],
    constant int& width [[buffer(3)]],
    constant int& pairs [[buffer(4)]],
    constant int& start [[buffer(5)]],
    device T* y [[buffer(6)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]],
    uint3 threads_per_grid [[threads_per_grid]]) {
  int i = thread_position_in_grid.x;
  if (i >= width - pairs) {
    return;
  }
  size_t row = thread_position_in_grid.z;
  size_t base = (row * threads_per_grid.y + thread_position_in_grid.y) * width;
  if (i >= pairs) {
    int other = i - pairs;
    size_t at = base + (other < start ? other : other + 2 * pairs);
    y[at] = x[at];
    return;
  }
  size_t first = base + start + (INTERLEAVED ? 2 * i : i);
  size_t second = first + (INTERLEAVED ? 1 : pairs);
  float a = float(x[first]);
  float b = float(x[second]);
  float cosine = cos_table[row * pairs + i];
  float sine = sin_table[row * pairs + i];
  y[first] = T(a * cosine - b * sine);
  y[second] = T(b * cosine + a * sine);
}

// instantiations
template [[host_name("rope_half")]] [[kernel]] decltype(rope<half, false>) rope<half, false>;
template [[host_name("rope_bfloat")]] [[kernel]] decltype(rope<bfloat, true>) rope<bfloat, true>;
template [[host_name("rope_float")]] [[kernel]] decltype(rope<float, false>) rope<float, false>;
