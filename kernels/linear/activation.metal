// The activation of a feed-forward layer over many rows, gate and up side by side in each.
//
// A thread takes 4 neighbours of both. It is computed in float32, and rounded once.
// Bytes: x and y once.
#include <metal_stdlib>
using namespace metal;
#include "activation.h"

template <typename T, int ACTIVATION>
[[kernel]] void activation(
    const device T* x [[buffer(0)]],
    constant int& width [[buffer(1)]],
    constant float& limit [[buffer(2)]],
    device T* y [[buffer(3)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  int column = 4 * thread_position_in_grid.x;
  if (column >= width) {
    return;
  }
  size_t row = thread_position_in_grid.y;
  const device T* from = x + row * 2 * width + column;
  vec<T, 4> gate = *(const device vec<T, 4>*)from;
  vec<T, 4> up = *(const device vec<T, 4>*)(from + width);
  vec<T, 4> out;
  for (int i = 0; i < 4; i++) {
    out[i] = T(activated<ACTIVATION>(float(gate[i]), float(up[i]), limit));
  }
  *(device vec<T, 4>*)(y + row * width + column) = out;
}

// instantiations
template [[host_name("activation_half_1")]] [[kernel]] decltype(
    activation<half, 1>) activation<half, 1>;
template [[host_name("activation_bfloat_2")]] [[kernel]] decltype(
    activation<bfloat, 2>) activation<bfloat, 2>;
template [[host_name("activation_float_3")]] [[kernel]] decltype(
    activation<float, 3>) activation<float, 3>;
template [[host_name("activation_half_4")]] [[kernel]] decltype(
    activation<half, 4>) activation<half, 4>;
