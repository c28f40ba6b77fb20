// Many tokens through their experts: products over tiles of pairs that have one expert each.
//
// moe_sort has put the pairs of token and expert in order, and in tiles of TILE (8, 16 or 32) of
// one expert. A threadgroup of 4 simdgroups takes a tile times 64 rows of its expert's weight, in
// steps of 32 columns: each step's weights are decoded into threadgroup memory once (8 KB with x
// in 16 bits, so that several groups fit a core), then each simdgroup multiplies up to 16 pairs by
// 16 or 32 rows in 8x8 matrices. So a tile reads an expert's weights once, where unsorted products
// read them for each pair. How tall tiles should be, moe_metal.py decides by the pairs an expert
// has: what is empty in a tile is multiplied too, and each tile reads its expert again.
// `moe_inner_tiles` gathers x by token and pairs gate and up in a simdgroup's own sums, so that
// their activation takes no further pass; it leaves its rows in order. `moe_outer_tiles` writes a
// pair's row where the token looks for it, and `moe_combine` adds up a token's rows: no atomics.
// The grid has room for the most tiles there can be; those past the count return at once.
#include <metal_stdlib>
using namespace metal;
#include "activation.h"
#include "fragment.h"
#include "scales.h"

enum { ROWS = 64, STEP = 32, STRIDE = STEP + 8, THREADS = 128 };

// A simdgroup's share of a tile, in 8x8 matrices of pairs and of rows.
template <int TILE>
constexpr uint high_of() {
  return TILE == 8 ? 1 : 2;
}
template <int TILE>
constexpr uint wide_of() {
  return TILE == 32 ? 4 : 2;
}

// The columns of a pair that a thread takes in a step.
template <int TILE>
constexpr uint near_of() {
  return TILE * STEP / THREADS;
}

// A thread's 16 values of the 64 rows' next 32 columns; what a group shares, and a superblock, is
// kept from step to step.
template <typename T, typename S, int FORMAT, int GROUP>
inline void fill_rows(
    const device uint* row,
    const device S* scales,
    const device Bias<S>* biases,
    uint column,
    thread Superblock& block,
    thread float2& scaling,
    threadgroup T* target) {
  if (column % SUPERBLOCK < STEP) {
    load_superblock<FORMAT, GROUP>(scales, biases, column / GROUP, block);
  }
  if (column % GROUP < STEP) {
    scaling = scaling_of<FORMAT, GROUP>(scales, biases, column / GROUP, block);
  }
  uint words[words_of<FORMAT, 16>()];
  load_codes<FORMAT, 16>(row, column, words);
  for (int i = 0; i < 16; i += 4) {
    vec<T, 4> four;
    for (int j = 0; j < 4; j++) {
      four[j] = T(value_at<FORMAT>(words, i + j, scaling.x, scaling.y));
    }
    *(threadgroup vec<T, 4>*)(target + i) = four;
  }
}

// A thread's COUNT (2, 4 or 8) values of a pair's next 32 columns.
template <uint COUNT, typename T>
inline void fill_pair(const device T* from, threadgroup T* target) {
  constexpr int width = COUNT < 4 ? 2 : 4;
  for (uint i = 0; i < COUNT; i += width) {
    *(threadgroup vec<T, width>*)(target + i) = *(const device vec<T, width>*)(from + i);
  }
}

// A simdgroup's pairs times its rows, over one step's columns.
template <typename T, uint HIGH, uint WIDE>
inline void multiply(
    threadgroup const T* pairs,
    threadgroup const T* rows,
    thread Fragment (&sums)[HIGH][WIDE]) {
  for (uint column = 0; column < STEP; column += 8) {
    simdgroup_matrix<T, 8, 8> left[HIGH];
    simdgroup_matrix<T, 8, 8> right[WIDE];
    UNROLLED
    for (uint i = 0; i < HIGH; i++) {
      simdgroup_load(left[i], pairs + 8 * i * STRIDE + column, STRIDE);
    }
    UNROLLED
    for (uint j = 0; j < WIDE; j++) {
      simdgroup_load(right[j], rows + 8 * j * STRIDE + column, STRIDE, ulong2(0, 0), true);
    }
    UNROLLED
    for (uint i = 0; i < HIGH * WIDE; i++) {
      thread Fragment& sum = sums[i / WIDE][i % WIDE];
      simdgroup_multiply_accumulate(sum, left[i / WIDE], right[i % WIDE], sum);
    }
  }
}

template <uint HIGH, uint WIDE>
inline void clear(thread Fragment (&sums)[HIGH][WIDE]) {
  UNROLLED
  for (uint i = 0; i < HIGH * WIDE; i++) {
    sums[i / WIDE][i % WIDE] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }
}

// Of a simdgroup's rows the first half are of the gate, and the others the same ones of up.
template <
    typename T,
    typename S,
    int HIDDEN,
    int WIDTH,
    int PICKS,
    int FORMAT,
    int GROUP,
    int ACTIVATION,
    bool BIASED,
    int TILE>
[[kernel]] void moe_inner_tiles(
    const device T* x [[buffer(0)]],
    const device int* order [[buffer(1)]],
    const device int* offsets [[buffer(2)]],
    const device int* tiles [[buffer(3)]],
    const device uint* gate [[buffer(4)]],
    const device S* gate_scales [[buffer(5)]],
    const device Bias<S>* gate_biases [[buffer(6)]],
    const device uint* up [[buffer(7)]],
    const device S* up_scales [[buffer(8)]],
    const device Bias<S>* up_biases [[buffer(9)]],
    const device float* gate_bias [[buffer(10)]],
    const device float* up_bias [[buffer(11)]],
    constant float& limit [[buffer(12)]],
    device T* inner [[buffer(13)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  static_assert(WIDTH % (ROWS / 2) == 0, "the rows of gate and up are whole tiles");
  constexpr uint HIGH = high_of<TILE>();
  constexpr uint WIDE = wide_of<TILE>();
  constexpr uint NEAR = near_of<TILE>();
  threadgroup T pairs[TILE * STRIDE];
  threadgroup T rows[ROWS * STRIDE];
  uint number = threadgroup_position_in_grid.y;
  if (number >= uint(tiles[0])) {
    return;
  }
  uint thread_index = thread_index_in_threadgroup;
  size_t expert = tiles[1 + 2 * number];
  uint begin = tiles[2 + 2 * number];
  uint end = min(begin + TILE, uint(offsets[expert + 1]));
  uint base = threadgroup_position_in_grid.x * (ROWS / 2);
  uint pair = thread_index / (STEP / NEAR);
  uint token = uint(order[min(begin + pair, end - 1)]) / PICKS;
  uint near = thread_index % (STEP / NEAR) * NEAR;
  const device T* from = x + size_t(token) * HIDDEN + near;
  uint row = thread_index / 2;
  uint far = thread_index % 2 * 16;
  size_t at = expert * WIDTH + (base + row / (8 * WIDE) * (4 * WIDE) + row % (4 * WIDE));
  bool gated = row / (4 * WIDE) % 2 == 0;
  const device uint* words = (gated ? gate : up) + at * (HIDDEN / 32 * bits_of<FORMAT>());
  const device S* scales = (gated ? gate_scales : up_scales) + at * scales_of<FORMAT, GROUP>(HIDDEN);
  const device Bias<S>* biases =
      (gated ? gate_biases : up_biases) + at * biases_of<FORMAT, GROUP>(HIDDEN);
  uint left = simdgroup_index_in_threadgroup * (8 * WIDE) / ROWS * (8 * HIGH);
  uint right = simdgroup_index_in_threadgroup * (8 * WIDE) % ROWS;
  Superblock block;
  float2 scaling = float2(0.0f);
  Fragment sums[HIGH][WIDE];
  clear(sums);
  for (uint column = 0; column < HIDDEN; column += STEP) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    fill_pair<NEAR>(from + column, pairs + pair * STRIDE + near);
    fill_rows<T, S, FORMAT, GROUP>(
        words, scales, biases, column + far, block, scaling, rows + row * STRIDE + far);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    multiply(pairs + left * STRIDE, rows + right * STRIDE, sums);
  }
  uint lane = thread_index_in_simdgroup;
  UNROLLED
  for (uint i = 0; i < HIGH; i++) {
    uint place = begin + left + 8 * i + fragment_row(lane);
    UNROLLED
    for (uint j = 0; j < WIDE / 2; j++) {
      UNROLLED
      for (uint e = 0; e < 2; e++) {
        uint column = base + right / 2 + 8 * j + fragment_column(lane) + e;
        float first = sums[i][j].thread_elements()[e];
        float second = sums[i][j + WIDE / 2].thread_elements()[e];
        if (place < end) {
          first += BIASED ? float(gate_bias[expert * WIDTH + column]) : 0.0f;
          second += BIASED ? float(up_bias[expert * WIDTH + column]) : 0.0f;
          inner[size_t(place) * WIDTH + column] = T(activated<ACTIVATION>(first, second, limit));
        }
      }
    }
  }
}

template <
    typename T,
    typename S,
    int HIDDEN,
    int WIDTH,
    int FORMAT,
    int GROUP,
    bool BIASED,
    int TILE>
[[kernel]] void moe_outer_tiles(
    const device T* inner [[buffer(0)]],
    const device int* order [[buffer(1)]],
    const device int* offsets [[buffer(2)]],
    const device int* tiles [[buffer(3)]],
    const device uint* down [[buffer(4)]],
    const device S* scales [[buffer(5)]],
    const device Bias<S>* biases [[buffer(6)]],
    const device float* down_bias [[buffer(7)]],
    device T* parts [[buffer(8)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  constexpr uint HIGH = high_of<TILE>();
  constexpr uint WIDE = wide_of<TILE>();
  constexpr uint NEAR = near_of<TILE>();
  threadgroup T pairs[TILE * STRIDE];
  threadgroup T rows[ROWS * STRIDE];
  uint number = threadgroup_position_in_grid.y;
  if (number >= uint(tiles[0])) {
    return;
  }
  uint thread_index = thread_index_in_threadgroup;
  size_t expert = tiles[1 + 2 * number];
  uint begin = tiles[2 + 2 * number];
  uint end = min(begin + TILE, uint(offsets[expert + 1]));
  uint base = threadgroup_position_in_grid.x * ROWS;
  uint pair = thread_index / (STEP / NEAR);
  uint near = thread_index % (STEP / NEAR) * NEAR;
  const device T* from = inner + size_t(min(begin + pair, end - 1)) * WIDTH + near;
  uint row = thread_index / 2;
  uint far = thread_index % 2 * 16;
  size_t at = expert * HIDDEN + min(base + row, uint(HIDDEN - 1));
  const device uint* words = down + at * (WIDTH / 32 * bits_of<FORMAT>());
  const device S* row_scales = scales + at * scales_of<FORMAT, GROUP>(WIDTH);
  const device Bias<S>* row_biases = biases + at * biases_of<FORMAT, GROUP>(WIDTH);
  uint left = simdgroup_index_in_threadgroup * (8 * WIDE) / ROWS * (8 * HIGH);
  uint right = simdgroup_index_in_threadgroup * (8 * WIDE) % ROWS;
  Superblock block;
  float2 scaling = float2(0.0f);
  Fragment sums[HIGH][WIDE];
  clear(sums);
  for (uint column = 0; column < WIDTH; column += STEP) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    fill_pair<NEAR>(from + column, pairs + pair * STRIDE + near);
    fill_rows<T, S, FORMAT, GROUP>(
        words, row_scales, row_biases, column + far, block, scaling, rows + row * STRIDE + far);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    multiply(pairs + left * STRIDE, rows + right * STRIDE, sums);
  }
  uint lane = thread_index_in_simdgroup;
  UNROLLED
  for (uint i = 0; i < HIGH; i++) {
    uint place = begin + left + 8 * i + fragment_row(lane);
    size_t target = place < end ? size_t(order[place]) * HIDDEN : 0;
    UNROLLED
    for (uint j = 0; j < WIDE; j++) {
      UNROLLED
      for (uint e = 0; e < 2; e++) {
        uint column = base + right + 8 * j + fragment_column(lane) + e;
        if (place < end && column < HIDDEN) {
          float bias = BIASED ? float(down_bias[expert * HIDDEN + column]) : 0.0f;
          parts[target + column] = T(sums[i][j].thread_elements()[e] + bias);
        }
      }
    }
  }
}

// Four columns of a token a thread.
template <typename T, int HIDDEN, int PICKS, bool RESIDUAL>
[[kernel]] void moe_combine(
    const device T* parts [[buffer(0)]],
    const device float* weights [[buffer(1)]],
    const device T* residual [[buffer(2)]],
    device T* y [[buffer(3)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  uint token = thread_position_in_grid.y;
  uint column = 4 * thread_position_in_grid.x;
  size_t at = size_t(token) * HIDDEN + column;
  float4 sum = float4(0.0f);
  for (uint i = 0; i < PICKS; i++) {
    size_t pair = size_t(token) * PICKS + i;
    sum += weights[pair] * float4(*(const device vec<T, 4>*)(parts + pair * HIDDEN + column));
  }
  if (RESIDUAL) {
    sum += float4(*(const device vec<T, 4>*)(residual + at));
  }
  *(device vec<T, 4>*)(y + at) = vec<T, 4>(sum);
}

// instantiations
#define PREFILL(T, FORMAT, TILE) \
  template [[host_name("moe_inner_tiles_" #T "_" #FORMAT "_" #TILE)]] [[kernel]] decltype( \
      moe_inner_tiles<T, T, 2048, 1408, 6, FORMAT, 64, 1, false, TILE>) \
      moe_inner_tiles<T, T, 2048, 1408, 6, FORMAT, 64, 1, false, TILE>; \
  template [[host_name("moe_outer_tiles_" #T "_" #FORMAT "_" #TILE)]] [[kernel]] decltype( \
      moe_outer_tiles<T, T, 2048, 1408, FORMAT, 64, false, TILE>) \
      moe_outer_tiles<T, T, 2048, 1408, FORMAT, 64, false, TILE>;
#define ALL(T) \
  PREFILL(T, 4, 32) \
  PREFILL(T, 8, 16) \
  PREFILL(T, 4, 8) \
  template [[host_name("moe_combine_" #T)]] [[kernel]] decltype( \
      moe_combine<T, 2048, 6, true>) moe_combine<T, 2048, 6, true>;
ALL(float)
ALL(half)
ALL(bfloat)
