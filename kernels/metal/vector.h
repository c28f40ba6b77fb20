// Stretches of an array, in float32: 8 or 16 bytes to a load where COUNT is a multiple of 4, which
// says that the stretch begins at a multiple of 4 values.
#pragma once

template <int COUNT, typename V>
inline void load_values(const device V* from, thread float* to) {
  if (COUNT % 4 != 0) {
    for (int i = 0; i < COUNT; i++) {
      to[i] = float(from[i]);
    }
    return;
  }
  for (int i = 0; i < COUNT / 4; i++) {
    float4 part = float4(((const device vec<V, 4>*)from)[i]);
    to[4 * i] = part.x;
    to[4 * i + 1] = part.y;
    to[4 * i + 2] = part.z;
    to[4 * i + 3] = part.w;
  }
}
