// Where a simdgroup's lanes are on a page of keys and values of one key head.
//
// A page's keys are (rows, 32 tokens): a lane takes four neighbouring tokens of every fourth row,
// so that an instruction covers four whole rows. Its values are (32 tokens, width): lanes are
// spread over a token's values, four each, and over as many tokens as they are enough for.
#pragma once

enum { PAGE = 32, GROUP = 32 };

// What becomes of a page beside being read: nothing; what is late goes into a tail, with the step's
// token; the step's token is put into the page itself.
enum { READ, TAIL, IN_PLACE };

typedef float4 Quad;  // where `float4 (` would read like a constructor

constant constexpr const float LOWEST = -3.0e38f;

// Of four lanes that hold parts of the same four tokens' scores, each gets the sum of one token's.
inline float own_score(float4 scores, ushort lane) {
  const bool upper = lane & 16;
  const float2 sent = upper ? scores.xy : scores.zw;
  const float2 kept = (upper ? scores.zw : scores.xy) + simd_shuffle_xor(sent, ushort(16));
  const bool odd = lane & 8;
  return (odd ? kept.y : kept.x) + simd_shuffle_xor(odd ? kept.x : kept.y, ushort(8));
}

inline int own_token(int lane) {
  return 4 * (lane % 8) + lane / 16 * 2 + lane / 8 % 2;
}

inline ushort lane_of(int token) {
  return token / 4 + (token & 2) * 8 + (token & 1) * 8;
}

// How many tokens' values an instruction covers.
template <int V>
constexpr int abreast() {
  return V <= 16 ? 8 : V <= 32 ? 4 : V <= 64 ? 2 : 1;
}
