// A key's or value's numbers as quantized pages store them: the formats are paged_attention's.
#pragma once
#include "page.h"

constant constexpr const float LARGEST = 65504.0f;  // of binary16: what is beyond is held there

// A group of values, one a lane, as it is stored.
template <int BITS, typename S>
inline void encode(
    float x, int group, int width, threadgroup S* codes, threadgroup half* scales, int groups,
    int lane) {
  const bool inside = lane < width;
  const float top = simd_max(inside ? BITS == 8 ? fabs(x) : x : LOWEST);
  const float least = precise::clamp(simd_min(inside ? x : -LOWEST), -LARGEST, LARGEST);
  const half low = BITS == 4 ? half(least) : half(0);
  const float step_size = (top - float(low)) / (BITS == 8 ? 127.0f : 15.0f);
  const half scale = half(precise::min(step_size, LARGEST));
  const float code = scale == 0 ? 0.0f : rint((x - float(low)) / float(scale));
  const uint step = uint(precise::clamp(code, 0.0f, 15.0f));
  const uint other = simd_shuffle(step, ushort((lane + width / 2) % 32));
  if (lane == 0) {
    scales[group] = scale;
    scales[groups + group] = low;
  }
  if (BITS == 4 && lane < width / 2) {
    codes[16 * group + lane] = S(step | other << 4);
  } else if (BITS != 4 && inside) {
    codes[32 * group + lane] = BITS == 8 ? S(precise::clamp(code, -127.0f, 127.0f)) : S(x);
  }
}
