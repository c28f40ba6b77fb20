// Pages of keys and values of one key head, as a simdgroup reads them (page.h).
#pragma once
#include "page.h"

template <typename P>
struct Arrays {
  P keys;
  P values;
};

// EDGE: some tokens are missing, new, or to be stored.
template <typename S, int D, int V, int H, int MODE>
struct Page {
  enum {
    ROWS = D,
    PER = 1,
    BLOCKS = (D + 15) / 16,
    TOKENS = abreast<V>(),
    LANES = 32 / TOKENS,
    CHUNKS = (V + 127) / 128
  };
  typedef vec<S, 4> Codes;

  Arrays<const device S*> from;
  Arrays<device S*> to;
  threadgroup S* codes;  // the step's key and value
  size_t index;  // in `from`, counting pages times heads
  size_t into;  // in `to`
  int held;  // tokens that are there
  int fresh;  // the place of the step's token; 32 or more if it is not on this page
  bool stores;
  int lane;

  // Which dimension add_scores looks for at `place` of a query; -1 where it wants a zero.
  static int dimension(int place) {
    const int d = place / 16 * 16 + place % 4 * 4 + place / 4 % 4;
    return d < D ? d : -1;
  }

  // Where a lane's four values go in the output: two by two.
  static int first(int slot) {
    return 4 * slot;
  }

  static int second(int slot) {
    return 4 * slot + 2;
  }

  // 32 dimensions of the step's key, or value, one a lane.
  void put(bool key, float x, int group) {
    if (GROUP * group + lane < (key ? D : V)) {
      codes[(key ? 0 : D) + GROUP * group + lane] = S(x);
    }
  }

  // Four tokens of a row of keys.
  template <bool EDGE>
  float4 four(const device S* source, device S* target, int row) {
    const int first = 4 * (lane % 8);
    const int last = first + 3;
    source += row * PAGE + first;
    target += row * PAGE + first;
    if (!EDGE) {
      return float4(*(const device Codes*)source);
    }
    Codes found = Codes(S(0));
    if (held > last) {
      found = *(const device Codes*)source;
    }
    for (int i = 0; held <= last && i < 4; i++) {
      if (held > first + i) {
        found[i] = source[i];
      } else if (MODE != READ) {
        found[i] = codes[row];  // behind the step's token, nobody looks
      }
    }
    if (stores && fresh >= first) {
      if (MODE == TAIL) {
        *(device Codes*)target = found;
      } else if (fresh <= last) {
        target[fresh - first] = codes[row];
      }
    }
    return float4(found);
  }

  // scores[h] += queries[h] . keys for this lane's tokens and its quarter of the dimensions.
  template <bool EDGE>
  void add_scores(threadgroup const float4* queries, thread float4* scores) {
    const int part = lane / 8;
    const device S* source = from.keys + index * (D * PAGE);
    device S* target = to.keys + into * (D * PAGE);
    for (int block = 0; block < BLOCKS; block++) {
      float4 keys[4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int row = 16 * block + 4 * j;
        keys[j] = row < D ? four<EDGE>(source, target, row + part) : float4(0.0f);
      }
#pragma unroll
      for (int h = 0; h < H; h++) {
        const float4 q = queries[(h * BLOCKS + block) * 4 + part];
        for (int j = 0; j < 4; j++) {
          scores[h] += q[j] * keys[j];
        }
      }
    }
  }

  // sum[h] += weights[h] . values; weights[h] is the weight of this lane's own token.
  template <bool EDGE>
  void add_values(thread const float* weights, thread Quad (&sum)[H][CHUNKS]) {
    constexpr bool grows = EDGE && MODE != READ;
    const int end = EDGE ? min(MODE == READ ? held : fresh + 1, int(PAGE)) : int(PAGE);
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
      const int at = 4 * (lane % LANES + 32 * chunk);
      const device S* source = from.values + index * (PAGE * V) + at;
      device S* target = to.values + into * (PAGE * V) + at;
      Codes mine = Codes(S(0));
      for (int i = 0; grows && at < V && i < 4; i++) {
        mine[i] = codes[D + at + i];
      }
#pragma unroll(4)
      for (int start = 0; start < end; start += TOKENS) {
        const int token = start + lane / LANES;
        Codes found = Codes(S(0));
        if (at < V && (!EDGE || token < held)) {
          found = *(const device Codes*)(source + token * V);
        }
        if (grows) {
          found = token == fresh ? mine : found;
          if (at < V && stores && (token == fresh || (MODE == TAIL && token < fresh))) {
            *(device Codes*)(target + token * V) = found;
          }
        }
#pragma unroll
        for (int h = 0; h < H; h++) {
          sum[h][chunk] += simd_shuffle(weights[h], lane_of(token)) * float4(found);
        }
      }
    }
  }
};
