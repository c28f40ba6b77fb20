// A causal convolution of each channel over the runs of a step, its last inputs kept between steps.
//
// A thread takes 4 neighbouring channels of a stretch of rows: the window slides through registers,
// so each input is loaded once but for the WIDTH - 1 before the stretch.
// Least bytes: the inputs, the outputs, the weights, and the state in and out.
#include <metal_stdlib>
using namespace metal;
#include "four.h"

constexpr constant int STRETCH = 32;

template <typename T, int WIDTH, bool BIAS, bool SILU>
[[kernel]] void conv1d(
    const device T* x [[buffer(0)]],
    const device float* weight [[buffer(1)]],
    const device float* bias [[buffer(2)]],
    const device float* state [[buffer(3)]],
    const device int* runs [[buffer(4)]],
    constant int& channels [[buffer(5)]],
    device T* out [[buffer(6)]],
    device float* next [[buffer(7)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint size = uint(channels);
  const uint channel = 4 * thread_position_in_grid.x;
  const uint run = thread_position_in_grid.y;
  const device int* sequence = runs + 4 * run; // first row, last row, slot, whether it is fresh
  const int start = sequence[0] + int(thread_position_in_grid.z) * STRETCH;
  const int stop = min(start + STRETCH, sequence[1]);
  const bool begins = start == sequence[0];
  if (begins || start < sequence[1]) {
    const device float* before = state + size_t(sequence[2]) * (WIDTH - 1) * size;
    float4 window[WIDTH]; // the row's input last; here still the row before
    float4 weights[WIDTH];
    for (int i = 0; i < WIDTH; ++i) {
      weights[i] = load_four(weight + i * size, channel, size);
      window[i] = 0.0f;
    }
    for (int i = 1; i < WIDTH; ++i) {
      if (!begins) {
        window[i] = load_four(x + size_t(start - WIDTH + i) * size, channel, size);
      } else if (!sequence[3]) {
        window[i] = load_four(before + (i - 1) * size, channel, size);
      }
    }
    const float4 addend = BIAS ? load_four(bias, channel, size) : float4(0.0f);
    for (int row = start; row < stop; ++row) {
      for (int i = 1; i < WIDTH; ++i) {
        window[i - 1] = window[i];
      }
      window[WIDTH - 1] = load_four(x + size_t(row) * size, channel, size);
      float4 sum = addend;
      for (int i = 0; i < WIDTH; ++i) {
        sum += window[i] * weights[i];
      }
      sum = SILU ? sum / (1.0f + precise::exp(-sum)) : sum;
      store_four(out + size_t(row) * size, channel, size, sum);
    }
    if (stop == sequence[1]) {
      for (int i = 1; i < WIDTH; ++i) {
        device float* after = next + (size_t(run) * (WIDTH - 1) + i - 1) * size;
        store_four(after, channel, size, window[i]);
      }
    }
  }
}

// instantiations
#define CONV1D(type)                                                                               \
  template [[host_name("conv1d_" #type)]] [[kernel]] decltype(conv1d<type, 4, true, true>) conv1d< \
      type, 4, true, true>;
CONV1D(float)
CONV1D(half)
CONV1D(bfloat)
