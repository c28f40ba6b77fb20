// A linear layer for 2 to 16 rows: each weight is decoded once for all rows, on 8x8 matrices.
//
// A threadgroup makes 8 * TILES outputs of every row of x; its SPLIT simdgroups take the groups of
// inputs in turns (or superblocks, a quarter at a time), each all tiles and all rows, so a
// threadgroup reads x once and nothing is staged. Their sums meet in threadgroup memory, 8 rows at
// a time: 16 KB at most, two groups fit.
// The weight is the left operand, x transposed the right one: a lane decodes the very values that
// it holds. Inputs are permuted to that end: of a turn, a row's four lanes take a quarter each,
// in one load; of every 8 of those the matrices have one of the first and one of the last four,
// and a lane of x, likewise permuted, 4 consecutive inputs.
// All is decoded to float: float matrices are as fast as 16-bit ones, hold x * norm whatever its
// size, and let a code be masked where others shift it and convert it, at four times a mask each.
// The norm is one factor for each row of x, so its squares are summed alongside.
//
// Least bytes: codes, scales and biases once, rows * (inputs + outputs) * sizeof(T). Codes are read
// once; x by each threadgroup, from the cache: at 4 bits rows / (2 * TILES) times the codes' bytes.
// Hence 8 TILES where that leaves enough threadgroups, registers too; 4 or 2 where it does not.
#include <metal_stdlib>
using namespace metal;

#include "activation.h"
#include "fragment.h"
#include "scales.h"

enum { DENSE = 0, SPLIT = 8 };

template <typename S>
inline float4 four(const device S* values) {
  return float4(*(const device vec<S, 4>*)values);
}

// value_at() of affine codes that do not cross words: in the low bits of 2^23 a code is a float
// already, times the power of two of its place.
template <int FORMAT>
inline float decoded(thread const uint* words, int i, float scale, float bias) {
  int bit = i * bits_of<FORMAT>() % 32;
  int word = i * bits_of<FORMAT>() / 32;
  if (FORMAT == MXFP4 || is_split<FORMAT>(i)) {
    return value_at<FORMAT>(words, i, scale, bias);
  }
  bool is_high = bit + bits_of<FORMAT>() > 23;
  uint bits = is_high ? words[word] >> 16 : words[word];
  int place = is_high ? bit - 16 : bit;
  uint code = bits & ((1u << bits_of<FORMAT>()) - 1) << place;
  float value = as_type<float>(0x4b000000u | code) - 8388608.0f;
  float one = 1.0f / float(1u << place);
  return is_iq4<FORMAT>() ? scale * iq4(value * one) : fma(value, scale * one, bias);
}

// The inputs that a simdgroup takes at once: whole groups, 8 codes a lane at least.
template <int FORMAT, int GROUP>
constexpr int step_of() {
  return has_superblocks<FORMAT>() ? 64 : GROUP < 32 ? 32 : GROUP;
}

// The turn after this one: on to the end of a span of so many, then to this simdgroup's next span.
template <int TURNS>
inline uint next(uint turn) {
  return turn % TURNS < TURNS - 1 ? turn + 1 : turn + 1 + (SPLIT - 1) * TURNS;
}

// FORMAT: of quantized.h, or DENSE (in groups of 32). With an ACTIVATION, half of the tiles are
// the gate's. COLUMNS: 8 or 16, at least the rows of x. An operand that is not used is any array.
template <typename T, int FORMAT, int GROUP, int TILES, int COLUMNS, int ACTIVATION,
          bool BIAS, bool RESIDUAL, bool NORM>
[[kernel]] void linear_rows(
    const device T* x [[buffer(0)]],
    const device uint* weight [[buffer(1)]],
    const device T* scales [[buffer(2)]],
    const device T* biases [[buffer(3)]],
    const device T* bias [[buffer(4)]],
    const device T* residual [[buffer(5)]],
    const device T* norm [[buffer(6)]],
    constant float& eps [[buffer(7)]],
    constant float& limit [[buffer(8)]],
    constant int& rows [[buffer(9)]],
    constant int& inputs [[buffer(10)]],
    constant int& outputs [[buffer(11)]],
    device T* y [[buffer(12)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  constexpr int STEP = step_of<FORMAT, GROUP>();
  constexpr int SPAN = has_superblocks<FORMAT>() ? SUPERBLOCK : STEP;
  constexpr int RUN = STEP / 4;
  constexpr int WORDS = FORMAT == DENSE ? 1 : words_of<FORMAT, RUN>();
  constexpr int BLOCKS = COLUMNS / 8;
  constexpr int MADE = ACTIVATION ? TILES / 2 : TILES;
  constexpr int WIDTH = 8 * TILES;
  threadgroup float parts[SPLIT * 8 * WIDTH];
  threadgroup float squares[SPLIT * COLUMNS];
  uint part = simdgroup_index_in_threadgroup;
  uint lane = thread_index_in_simdgroup;
  uint row = fragment_row(lane);
  uint column = fragment_column(lane);
  uint first = threadgroup_position_in_grid.x * MADE * 8;
  uint last = outputs - 1;
  uint groups = inputs / GROUP;
  Superblock blocks[TILES];

  uint owned[TILES];
  Fragment sums[TILES][BLOCKS];
  UNROLLED
  for (int t = 0; t < TILES; t++) {
    owned[t] = min(first + t % MADE * 8 + row, last) + t / MADE * outputs;
    UNROLLED
    for (int b = 0; b < BLOCKS; b++) {
      set(sums[t][b], 0, 0);
    }
  }
  uint taken[2 * BLOCKS];
  float square[2 * BLOCKS];
  UNROLLED
  for (int i = 0; i < 2 * BLOCKS; i++) {
    taken[i] = min(i / 2 * 8 + column + i % 2, uint(rows - 1)) * inputs;
    square[i] = 0;
  }

  for (uint turn = part * SPAN / STEP; turn < inputs / STEP; turn = next<SPAN / STEP>(turn)) {
    uint codes[TILES][WORDS];
    float2 scaling[TILES];
    uint run = turn * STEP + column / 2 * RUN;
    UNROLLED
    for (int t = 0; t < TILES; t++) {
      if (FORMAT != DENSE) {
        ulong start = ulong(owned[t]) * (inputs / 32 * bits_of<FORMAT>());
        load_codes<FORMAT, RUN>((const device uint*)weight + start, run, codes[t]);
        uint group = owned[t] * groups + run / GROUP;
        if (turn % (SPAN / STEP) == 0) {
          load_superblock<FORMAT, GROUP>(scales, biases, group, blocks[t]);
        }
        scaling[t] = scaling_of<FORMAT, GROUP>(scales, biases, group, blocks[t]);
      }
    }
    UNROLLED
    for (int pack = 0; pack < RUN; pack += 8) {
      Fragment right[4][BLOCKS];
      uint from = turn * STEP + row / 2 * RUN + pack + row % 2 * 4;
      float4 factor = NORM ? four(norm + from) : float4(1.0f);
      UNROLLED
      for (int b = 0; b < BLOCKS; b++) {
        float4 even = four(x + taken[2 * b] + from);
        float4 odd = four(x + taken[2 * b + 1] + from);
        if (NORM) {
          square[2 * b] += dot(even, even);
          square[2 * b + 1] += dot(odd, odd);
          even *= factor;
          odd *= factor;
        }
        UNROLLED
        for (int i = 0; i < 4; i++) {
          set(right[i][b], even[i], odd[i]);
        }
      }
      UNROLLED
      for (int t = 0; t < TILES; t++) {
        float4 low;
        float4 high;
        if (FORMAT == DENSE) {
          ulong start = ulong(owned[t]) * inputs + run + pack;
          low = four(weight + start);
          high = four(weight + start + 4);
        } else {
          UNROLLED
          for (int i = 0; i < 4; i++) {
            low[i] = decoded<FORMAT>(codes[t], pack + i, scaling[t].x, scaling[t].y);
            high[i] = decoded<FORMAT>(codes[t], pack + i + 4, scaling[t].x, scaling[t].y);
          }
        }
        UNROLLED
        for (int i = 0; i < 4; i++) {
          Fragment left;
          set(left, low[i], high[i]);
          UNROLLED
          for (int b = 0; b < BLOCKS; b++) {
            simdgroup_multiply_accumulate(sums[t][b], left, right[i][b], sums[t][b]);
          }
        }
      }
    }
  }

  if (NORM) {
    UNROLLED
    for (int i = 0; i < 2 * BLOCKS; i++) {
      float whole = column_sum(square[i]);
      if (row == 0) {
        squares[part * COLUMNS + i / 2 * 8 + column + i % 2] = whole;
      }
    }
  }
  UNROLLED
  for (int b = 0; b < BLOCKS; b++) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    UNROLLED
    for (int t = 0; t < TILES; t++) {
      simdgroup_store(sums[t][b], parts + part * 8 * WIDTH + t * 8, WIDTH, ulong2(0, 0), true);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = thread_index_in_threadgroup; i < 8 * 8 * MADE; i += SPLIT * 32) {
      uint o = i % (8 * MADE);
      uint n = i / (8 * MADE) + b * 8;
      if (n >= uint(rows) || first + o > last) {
        continue;
      }
      float value = 0;
      float up = 0;
      float mean = 0;
      for (int s = 0; s < SPLIT; s++) {
        uint place = (s * 8 + n % 8) * WIDTH + o;
        value += parts[place];
        up += ACTIVATION ? parts[place + 8 * MADE] : 0.0f;
        mean += NORM ? squares[s * COLUMNS + n] : 0.0f;
      }
      float inverse = NORM ? precise::rsqrt(mean / inputs + eps) : 1.0f;
      value = value * inverse + (BIAS ? float(bias[first + o]) : 0.0f);
      if (ACTIVATION) {
        up = up * inverse + (BIAS ? float(bias[outputs + first + o]) : 0.0f);
        value = activated<ACTIVATION>(value, up, limit);
      }
      uint place = n * outputs + first + o;
      y[place] = T(value + (RESIDUAL ? float(residual[place]) : 0.0f));
    }
  }
}

// instantiations
template [[host_name("linear_rows_half")]] [[kernel]] decltype(
    linear_rows<half, 4, 64, 4, 8, 0, false, false, false>)
    linear_rows<half, 4, 64, 4, 8, 0, false, false, false>;
template [[host_name("linear_rows_bfloat")]] [[kernel]] decltype(
    linear_rows<bfloat, 4, 64, 4, 16, 0, false, true, false>)
    linear_rows<bfloat, 4, 64, 4, 16, 0, false, true, false>;
template [[host_name("linear_rows_float")]] [[kernel]] decltype(
    linear_rows<float, 4, 64, 4, 16, 1, false, false, true>)
    linear_rows<float, 4, 64, 4, 16, 1, false, false, true>;
