// Four neighbouring elements of a row, some of which may lie beyond its end.
#pragma once

// Those beyond are 0. A row of a multiple of 4 is aligned to vectors, as MLX's buffers are.
template <typename T>
inline float4 load_four(const device T* row, uint at, uint size) {
  float4 four = 0.0f;
  if (size % 4 == 0) {
    if (at < size) {
      four = float4(*(const device vec<T, 4>*)(row + at));
    }
  } else {
    for (uint j = 0; j < 4; ++j) {
      if (at + j < size) {
        four[j] = float(row[at + j]);
      }
    }
  }
  return four;
}

template <typename T>
inline void store_four(device T* row, uint at, uint size, float4 four) {
  if (size % 4 == 0) {
    if (at < size) {
      *(device vec<T, 4>*)(row + at) = vec<T, 4>(four);
    }
  } else {
    for (uint j = 0; j < 4; ++j) {
      if (at + j < size) {
        row[at + j] = T(four[j]);
      }
    }
  }
}
