// Rows of a quantized matrix by token: restored in float32, and rounded once.
//
// A thread takes 8 neighbouring values. Tokens are FEW where there are so few (8) that MLX hands
// them over in constant memory: that changes the kernel's text, so it has another name.
// Bytes: the rows with their scales once, y once.

#include <metal_stdlib>
using namespace metal;
#include "scales.h"

constant constexpr int EACH = 8;

template <typename T, typename S, int FORMAT, int GROUP, bool FEW>
[[kernel]] void embedding(
    const device int* tokens [[buffer(0)]],
    const device uint* weight [[buffer(1)]],
    const device S* scales [[buffer(2)]],
    const device Bias<S>* biases [[buffer(3)]],
    constant int& count [[buffer(4)]],
    constant int& width [[buffer(5)]],
    device T* y [[buffer(6)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  int first = thread_position_in_grid.x * EACH;
  uint row = thread_position_in_grid.y;
  if (first >= width) {
    return;
  }
  int token = tokens[row];
  size_t from = token < 0 ? token + count : token;
  uint words[words_of<FORMAT, EACH>()];
  load_codes<FORMAT, EACH>(weight + from * (width / 32 * bits_of<FORMAT>()), first, words);
  size_t group = from * (width / GROUP) + first / GROUP;
  float2 scaling[1];
  load_scaling<FORMAT, GROUP, EACH>(scales, biases, group, scaling);
  for (int i = 0; i < EACH; ++i) {
    y[row * width + first + i] = T(value_at<FORMAT>(words, i, scaling[0].x, scaling[0].y));
  }
}

// instantiations
#define EMBEDDING(T, S, FORMAT, GROUP)                                                             \
  template [[host_name("embedding_" #T "_" #S "_" #FORMAT "_" #GROUP)]] [[kernel]] decltype(       \
      embedding<T, S, FORMAT, GROUP, false>) embedding<T, S, FORMAT, GROUP, false>;
EMBEDDING(half, half, 4, 64)
EMBEDDING(bfloat, bfloat, 4, 64)
EMBEDDING(float, float, 8, 32)
EMBEDDING(half, uchar, MXFP4, 32)
EMBEDDING(bfloat, uint, Q5_K, 32)
EMBEDDING(half, uint, Q6_K, 16)
