// Quantized pages of keys and values of one key head, as a simdgroup reads them (page.h).
//
// Scales and biases are loaded once for a group's 32 dimensions; what they are for is decoded into
// registers, for all heads at a time.
#pragma once
#include "encode.h"
#include "page.h"

template <typename P, typename Q>
struct Arrays {
  P keys;
  P values;
  Q key_scales;
  Q key_biases;
  Q value_scales;
  Q value_biases;
};

template <typename X>
inline float4 unpacked(X codes) {
  return float4(codes);
}

inline float4 unpacked(uchar2 codes) {
  return float4(uchar4(codes.x & 15, codes.y & 15, codes.x >> 4, codes.y >> 4));
}

// BITS: 8 or 4. EDGE: some tokens are missing, new, or to be stored.
template <typename S, int BITS, int D, int V, int H, int MODE>
struct Page {
  enum {
    PER = BITS == 4 ? 2 : 1,
    ROWS = D / PER,
    BLOCKS = (ROWS + 15) / 16,
    K_GROUPS = (D + GROUP - 1) / GROUP,
    V_GROUPS = (V + GROUP - 1) / GROUP,
    TOKENS = abreast<V>(),
    LANES = 32 / TOKENS,
    CHUNKS = (V + 127) / 128,
    PIECE = 4 / PER
  };
  typedef vec<S, PIECE> Codes;

  Arrays<const device S*, const device half*> from;
  Arrays<device S*, device half*> to;
  threadgroup S* codes;  // of the step's key and value
  threadgroup half* scales;  // of the key's groups, and biases; then of the value's
  size_t index;  // in `from`, counting pages times heads
  size_t into;  // in `to`
  int held;  // tokens that are there
  int fresh;  // the place of the step's token; 32 or more if it is not on this page
  bool stores;
  int lane;

  // Which dimension add_scores looks for at `place` of a query; -1 where it wants a zero.
  static int dimension(int place) {
    const int row = place % 4 * 4 + place / 4 % 4;
    if (BITS == 8) {
      const int d = place / 16 * 16 + row;
      return d < D ? d : -1;
    }
    const int group = place / 32 * 32;
    const int part = min(int(GROUP), D - group) / 2;
    return row < part ? group + place / 16 % 2 * part + row : -1;
  }

  // Where the second two of a lane's four values are in the output; the first are at `first`.
  static int first(int slot) {
    return BITS == 4 ? slot / 8 * 32 + slot % 8 * 2 : 4 * slot;
  }

  static int second(int slot) {
    return first(slot) + (BITS == 4 ? min(int(GROUP), V - slot / 8 * 32) / 2 : 2);
  }

  // A group of the step's key, or value, one number a lane.
  void put(bool key, float x, int group) {
    const int groups = key ? K_GROUPS : V_GROUPS;
    encode<BITS>(
        x, group, min(int(GROUP), (key ? D : V) - GROUP * group), key ? codes : codes + ROWS,
        key ? scales : scales + 2 * K_GROUPS, groups, lane);
  }

  // Four tokens of a row of codes, scales or biases; `mine` is the step's.
  template <bool EDGE, typename X>
  vec<X, 4> four(
      const device X* source, device X* target, int rows, int row, threadgroup const X* mine,
      bool writes) {
    const int first = 4 * (lane % 8);
    const int last = first + 3;
    const int at = row * PAGE + first;
    source += index * (rows * PAGE) + at;
    if (!EDGE) {
      return *(const device vec<X, 4>*)source;
    }
    vec<X, 4> found = vec<X, 4>(X(0));
    if (held > last) {
      found = *(const device vec<X, 4>*)source;
    }
    for (int i = 0; held <= last && i < 4; i++) {
      if (held > first + i) {
        found[i] = source[i];
      } else if (MODE != READ) {
        found[i] = mine[row];  // behind the step's token, nobody looks
      }
    }
    if (writes && fresh >= first) {
      target += into * (rows * PAGE) + at;
      if (MODE == TAIL) {
        *(device vec<X, 4>*)target = found;
      } else if (fresh <= last) {
        target[fresh - first] = mine[row];
      }
    }
    return found;
  }

  // scores[h] += queries[h] . keys for this lane's tokens and its quarter of the dimensions.
  template <bool EDGE>
  void add_scores(threadgroup const float4* queries, thread float4* scores) {
    const int part = lane / 8;
    float4 scale = float4(1.0f);
    float4 bias = float4(0.0f);
    for (int block = 0; block < BLOCKS; block++) {
      const int group = block * PER / 2;
      const bool writes = stores && part == 0;
      if (block * PER % 2 == 0) {
        scale = float4(four<EDGE>(
            from.key_scales, to.key_scales, K_GROUPS, group, scales, writes));
      }
      if (BITS == 4) {
        bias = float4(four<EDGE>(
            from.key_biases, to.key_biases, K_GROUPS, group, scales + K_GROUPS, writes));
      }
      float4 keys[PER][4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int row = 16 * block + 4 * j;
        vec<S, 4> found = vec<S, 4>(S(0));
        if (row < ROWS) {
          found = four<EDGE>(from.keys, to.keys, ROWS, row + part, codes, stores);
        }
        for (int i = 0; i < PER; i++) {
          keys[i][j] = BITS == 4 ? float4((uchar4(found) >> uchar(4 * i)) & uchar(15))
                                 : float4(found);
          keys[i][j] = keys[i][j] * scale + bias;
        }
      }
#pragma unroll
      for (int h = 0; h < H; h++) {
        for (int i = 0; i < PER; i++) {
          const float4 q = queries[((h * BLOCKS + block) * PER + i) * 4 + part];
          for (int j = 0; j < 4; j++) {
            scores[h] += q[j] * keys[i][j];
          }
        }
      }
    }
  }

  // A piece of one token: the page's, the step's or, behind that, zeros.
  template <bool EDGE, typename X>
  X piece(const device X* source, device X* target, X mine, bool writes, int token) {
    if (!EDGE) {
      return *source;
    }
    X found = X(0);
    if (token < held) {
      found = *source;
    }
    if (MODE != READ) {
      found = token == fresh ? mine : found;
      if (writes && (token == fresh || (MODE == TAIL && token < fresh))) {
        *target = found;
      }
    }
    return found;
  }

  // sum[h] += weights[h] . values; weights[h] is the weight of this lane's own token.
  template <bool EDGE>
  void add_values(thread const float* weights, thread Quad (&sum)[H][CHUNKS]) {
    constexpr bool grows = EDGE && MODE != READ;
    const int end = EDGE ? min(MODE == READ ? held : fresh + 1, int(PAGE)) : int(PAGE);
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
      const int slot = lane % LANES + 32 * chunk;
      const int group = slot / 8;
      const bool used = 4 * slot < V;
      const bool writes = stores && slot % 8 == 0;
      const size_t source = index * PAGE;
      const size_t target = into * PAGE;
      const device Codes* values = (const device Codes*)(from.values + source * (V / PER)) + slot;
      device Codes* new_values = (device Codes*)(to.values + target * (V / PER)) + slot;
      const device half* sizes = from.value_scales + source * V_GROUPS + group;
      device half* new_sizes = to.value_scales + target * V_GROUPS + group;
      const device half* lows = from.value_biases + source * V_GROUPS + group;
      device half* new_lows = to.value_biases + target * V_GROUPS + group;
      Codes mine = Codes(S(0));
      half scale = 0;
      half bias = 0;
      if (grows && used) {
        for (int i = 0; i < PIECE; i++) {
          mine[i] = codes[ROWS + PIECE * slot + i];
        }
        scale = scales[2 * K_GROUPS + group];
        bias = scales[2 * K_GROUPS + V_GROUPS + group];
      }
#pragma unroll(4)
      for (int start = 0; start < end; start += TOKENS) {
        const int token = start + lane / LANES;
        const int at = token * V_GROUPS;
        float4 value = float4(0.0f);
        if (used) {
          value = unpacked(piece<EDGE>(
              values + token * (V / 4), new_values + token * (V / 4), mine, stores, token));
          value *= float(piece<EDGE>(sizes + at, new_sizes + at, scale, writes, token));
          if (BITS == 4) {
            value += float(piece<EDGE>(lows + at, new_lows + at, bias, writes, token));
          }
        }
#pragma unroll
        for (int h = 0; h < H; h++) {
          sum[h][chunk] += simd_shuffle(weights[h], lane_of(token)) * value;
        }
      }
    }
  }
};
