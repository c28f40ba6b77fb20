// Multi-head latent attention of decoding rows, absorbed: one key of D values a token for all
// heads, whose first V values are its value.
//
// A threadgroup takes up to 16 heads of a row and a run of its pages; its D / W simdgroups own W
// dimensions each. A tile of 32 tokens (16 in float32) is loaded once, straight into registers: a
// page has tokens along its rows, so lane i takes 16 bytes of dimension i / 4 (as fragments
// count), 512 contiguous bytes a simdgroup, and two neighbouring tokens of a lane are its two
// elements of an 8x8 fragment. That fragment is the right operand of Q K and the left one of K P
// (the output transposed), so nothing is transposed and no latent passes through threadgroup
// memory: what does is the simdgroups' shares of the scores (20 KB), since each holds only its
// dimensions. The tokens of fragment j are 2 j and 2 j + 1 of each quarter of the tile, in keys
// and in weights alike.
//
// At 16 heads a page is 1.1 MFLOP and 36 KB: on an M4 Max as long in the ALUs as in memory, which
// is why a key is used for all heads, and why short contexts are split between threadgroups too.
// Splits leave normalized outputs and the logarithm of their weight; latent_merge joins them.
//
// A new token is normalized, turned and rounded in registers by the threadgroup that owns its
// page, which either writes the sequence's whole tail into a new array (APPEND = 1), or the
// token's column into the pool behind MLX's back (APPEND = 2; the next launch on the pool must
// take `out`).

#include <metal_stdlib>
using namespace metal;

constant constexpr int PAGE = 32;
constant constexpr int GROUP = 32;
constant constexpr int TAIL_PAGES = 2;
constant constexpr float MASKED = -3.0e38f;  // finite: fast functions may not know infinity

// Two neighbouring tokens of a lane's words.
inline float2 pair_of(uint4 words, int j, int high, float) {
  return float2(as_type<float>(words[2 * j]), as_type<float>(words[2 * j + 1]));
}

inline half2 pair_of(uint4 words, int j, int high, half) {
  return as_type<half2>(words[j]);
}

inline float2 pair_of(uint4 words, int j, int high, bfloat) {
  return float2(as_type<float>(words[j] << 16), as_type<float>(words[j] & 0xffff0000u));
}

inline float2 pair_of(uint2 words, int j, int high, int8_t) {
  char4 codes = as_type<char4>(words[j / 2]);
  return j % 2 ? float2(codes.zw) : float2(codes.xy);
}

inline float2 pair_of(uint2 words, int j, int high, uint8_t) {
  uint codes = words[j / 2] >> (16 * (j % 2) + 4 * high);
  return float2(codes & 15u, (codes >> 8) & 15u);
}

inline uint raw_bits(float x) {
  return as_type<uint>(x);
}

inline uint raw_bits(half x) {
  return as_type<ushort>(x);
}

inline uint raw_bits(bfloat x) {
  return as_type<ushort>(x);
}

inline uint raw_bits(int8_t x) {
  return uint(uchar(x));
}

inline uint raw_bits(uint8_t x) {
  return x;
}

// Dimensions 8 f on of the tokens 2 j and 2 j + 1 of a lane.
template <typename M, typename K, int PACK, typename W>
inline simdgroup_matrix<M, 8, 8> fragment_of(
    thread const W* words, thread const uint4* scales, thread const uint4* biases, int f, int j) {
  float2 x = float2(pair_of(words[PACK == 2 ? f / 4 * 2 + f % 2 : f], j, f / 2 % 2, K()));
  if (sizeof(K) == 1) {
    x *= float2(as_type<half2>(scales[f / 4][j]));
  }
  if (PACK == 2) {
    x += float2(as_type<half2>(biases[f / 4][j]));
  }
  simdgroup_matrix<M, 8, 8> made;
  made.thread_elements()[0] = M(x.x);
  made.thread_elements()[1] = M(x.y);
  return made;
}

// Of a lane's tokens those before `held`, then one of these bits, then nothing.
template <int BITS, typename W>
inline W placed(W words, int held, uint bits) {
  for (int w = 0; w < int(sizeof(W)) / 4; ++w) {
    int at = held * BITS - 32 * w;
    words[w] &= at >= 32 ? ~0u : (1u << max(at, 0)) - 1u;
    words[w] |= at >= 0 && at < 32 ? bits << at : 0u;
  }
  return words;
}

// Dimension d of a head with its position turned in.
template <typename X, typename F>
inline float turned(X x, F cos, F sin, int d, int from, int pairs, bool interleaved) {
  int i = d - from;
  if (i < 0 || i >= 2 * pairs) {
    return x[d];
  }
  int apart = interleaved ? 1 : pairs;
  bool second = interleaved ? i % 2 : i >= pairs;
  int pair = interleaved ? i / 2 : i - (second ? pairs : 0);
  float a = x[second ? d - apart : d];
  float b = x[second ? d : d + apart];
  return second ? b * cos[pair] + a * sin[pair] : a * cos[pair] - b * sin[pair];
}

template <
    typename T, typename K, typename M, int HEADS, int D, int V, int W, int PACK, int FROM,
    int PAIRS, bool INTERLEAVED, bool NORM, int APPEND>
[[kernel]] void latent_attention(
    const device T* q [[buffer(0)]],
    const device T* latent [[buffer(1)]],
    const device float* norm [[buffer(2)]],
    const device float* cosines [[buffer(3)]],
    const device float* sines [[buffer(4)]],
    const device K* pool [[buffer(5)]],
    const device half* pool_scales [[buffer(6)]],
    const device half* pool_biases [[buffer(7)]],
    const device K* tail [[buffer(8)]],
    const device half* tail_scales [[buffer(9)]],
    const device half* tail_biases [[buffer(10)]],
    const device int* starts [[buffer(11)]],
    const device int* tails [[buffer(12)]],
    const device int* positions [[buffer(13)]],
    const device int* owners [[buffer(14)]],
    const device int* tables [[buffer(15)]],
    const device float* token [[buffer(16)]],
    constant int& width [[buffer(17)]],
    constant float& scale [[buffer(18)]],
    constant float& eps [[buffer(19)]],
    device T* out [[buffer(20)]],
    device float* lse [[buffer(21)]],
    device K* next [[buffer(22)]],
    device half* next_scales [[buffer(23)]],
    device half* next_biases [[buffer(24)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threadgroups_per_grid [[threadgroups_per_grid]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  constexpr int H = HEADS > 8 ? 2 : 1;
  constexpr int BITS = 8 * sizeof(K);
  constexpr bool CODES = sizeof(K) == 1;
  constexpr int TILE = sizeof(K) == 4 ? 16 : 32;
  constexpr int QUARTER = TILE / 4;
  constexpr int WORDS = QUARTER * sizeof(K) / 4;
  constexpr float MOST = PACK == 2 ? 15 : 127;
  constexpr int STORED = D / PACK;
  constexpr int FRAGMENTS = W / 8;
  constexpr int ENTRIES = FRAGMENTS / PACK;
  constexpr int GROUPS = W / GROUP;
  constexpr int SIMDS = D / W;
  constexpr int OWN = (8 * H + SIMDS - 1) / SIMDS;
  constexpr int ROW = TILE + 2;
  constexpr int STEP = 8 * H + 2;
  typedef simdgroup_matrix<M, 8, 8> Operand;
  typedef simdgroup_matrix<float, 8, 8> Sums;
  threadgroup float parts[SIMDS * 8 * H * ROW];
  threadgroup M weights[TILE * STEP];
  threadgroup float factors[8 * H];
  int lane = thread_index_in_simdgroup;
  int simd = simdgroup_index_in_threadgroup;
  int r = (lane / 4 & 4) + lane / 2 % 4;
  int c = (lane / 4 & 2) * 2 + lane % 2 * 2;
  int quarter = c / 2;
  int split = threadgroup_position_in_grid.x;
  int splits = threadgroups_per_grid.x;
  int head0 = threadgroup_position_in_grid.y * 8 * H;
  int row = threadgroup_position_in_grid.z;
  int position = positions[row];
  int count = (position + PAGE) / PAGE;
  int share = (count + splits - 1) / splits;
  int first = split * share * (PAGE / TILE);
  int last = min((split + 1) * share * (PAGE / TILE), (position + TILE) / TILE);
  const device T* mine = latent + row * D;
  const device float* cos_row = cosines + row * PAIRS;
  const device float* sin_row = sines + row * PAIRS;
  Operand queries[FRAGMENTS][H];
  Sums outs[FRAGMENTS][H];
#pragma unroll
  for (int f = 0; f < FRAGMENTS; ++f) {
    for (int h = 0; h < H; ++h) {
      int head = head0 + h * 8 + r;
      const device T* x = q + (row * HEADS + min(head, HEADS - 1)) * D;
      for (int e = 0; e < 2; ++e) {
        int d = simd * W + f * 8 + c + e;
        float value = turned(x, cos_row, sin_row, d, FROM, PAIRS, INTERLEAVED);
        queries[f][h].thread_elements()[e] = M(value);
      }
      outs[f][h] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
  }
  float top[OWN];
  float sum[OWN];
  for (int i = 0; i < OWN; ++i) {
    top[i] = MASKED;
    sum[i] = 0;
  }
  for (int tile = first; tile < last; ++tile) {
    int start = tile * TILE;
    bool kept = APPEND == 1 && start >= tails[row];
    int before = APPEND == 1 ? start - starts[row] : 0;
    bool old = kept && before >= 0 && before < TAIL_PAGES * PAGE;
    int page = old ? row * TAIL_PAGES + before / PAGE : tables[owners[row] * width + start / PAGE];
    int place = start % PAGE + quarter * QUARTER;
    int entry = (simd * W / PACK + r) * PAGE + place;
    const device K* codes = (old ? tail : pool) + ulong(page) * (STORED * PAGE) + entry;
    vec<uint, WORDS> words[ENTRIES];
#pragma unroll
    for (int e = 0; e < ENTRIES; ++e) {
      words[e] = *(const device vec<uint, WORDS>*)(codes + e * 8 * PAGE);
    }
    uint4 scales[GROUPS];
    uint4 biases[GROUPS];
    int group = (page * (D / GROUP) + simd * GROUPS) * PAGE + place;
    for (int g = 0; CODES && g < GROUPS; ++g) {
      scales[g] = *(const device uint4*)((old ? tail_scales : pool_scales) + group + g * PAGE);
      if (PACK == 2) {
        biases[g] = *(const device uint4*)((old ? tail_biases : pool_biases) + group + g * PAGE);
      }
    }
    if (start + TILE > position) {
      int held = position - start + (APPEND == 0) - quarter * QUARTER;
      bool writes = APPEND == 2 && held >= 0 && held < QUARTER;
      float fresh[FRAGMENTS] = {0};
      float gain = 1;
      if (NORM) {
        float squares = 0;
        for (int d = lane; d < V; d += 32) {
          squares += float(mine[d]) * float(mine[d]);
        }
        gain = precise::rsqrt(simd_sum(squares) / V + eps);
      }
      for (int f = 0; APPEND && f < FRAGMENTS; ++f) {
        int d = simd * W + f * 8 + r;
        fresh[f] = turned(mine, cos_row, sin_row, d, FROM, PAIRS, INTERLEAVED);
        fresh[f] *= NORM && d < V ? gain * norm[d] : 1.0f;
      }
      for (int g = 0; CODES && g < GROUPS; ++g) {
        float high = -INFINITY;
        float low = INFINITY;
        for (int f = 4 * g; f < 4 * g + 4; ++f) {
          high = precise::max(high, PACK == 2 ? fresh[f] : abs(fresh[f]));
          low = precise::min(low, fresh[f]);
        }
        half base = PACK == 2 ? half(simd_min(low)) : half(0);
        half unit = half((simd_max(high) - float(base)) / MOST);
        for (int f = 4 * g; f < 4 * g + 4; ++f) {
          float code = unit == 0 ? 0.0f : rint((fresh[f] - float(base)) / float(unit));
          fresh[f] = precise::clamp(code, PACK == 2 ? 0.0f : -MOST, MOST);
        }
        scales[g] = placed<16>(scales[g], held, raw_bits(unit));
        biases[g] = placed<16>(biases[g], held, raw_bits(base));
        simdgroup_barrier(APPEND == 2 ? mem_flags::mem_device : mem_flags::mem_none);
        if (writes && r == 0) {
          ((device half*)pool_scales)[group + g * PAGE + held] = unit;
        }
        if (writes && r == 0 && PACK == 2) {
          ((device half*)pool_biases)[group + g * PAGE + held] = base;
        }
      }
      for (int e = 0; e < ENTRIES; ++e) {
        int f = PACK == 2 ? e / 2 * 4 + e % 2 : e;
        K code = K(PACK == 2 ? fresh[f] + 16 * fresh[f + 2] : fresh[f]);
        words[e] = placed<BITS>(words[e], held, APPEND ? raw_bits(code) : 0u);
        if (writes) {
          ((device K*)codes)[e * 8 * PAGE + held] = code;
        }
      }
    }
    if (kept && head0 == 0) {
      int to = row * TAIL_PAGES + (start - tails[row]) / PAGE;
      for (int e = 0; e < ENTRIES; ++e) {
        *(device vec<uint, WORDS>*)(next + to * (STORED * PAGE) + entry + e * 8 * PAGE) = words[e];
      }
      for (int g = 0; CODES && r == 0 && g < GROUPS; ++g) {
        int at = (to * (D / GROUP) + simd * GROUPS + g) * PAGE + place;
        *(device uint4*)(next_scales + at) = scales[g];
        if (PACK == 2) {
          *(device uint4*)(next_biases + at) = biases[g];
        }
      }
    }
    Sums scores[H][TILE / 8];
    for (int h = 0; h < H; ++h) {
      for (int j = 0; j < TILE / 8; ++j) {
        scores[h][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
      }
    }
#pragma unroll
    for (int f = 0; f < FRAGMENTS; ++f) {
#pragma unroll
      for (int j = 0; j < TILE / 8; ++j) {
        Operand key = fragment_of<M, K, PACK>(words, scales, biases, f, j);
        for (int h = 0; h < H; ++h) {
          simdgroup_multiply_accumulate(scores[h][j], queries[f][h], key, scores[h][j]);
        }
      }
    }
    for (int h = 0; h < H; ++h) {
      for (int j = 0; j < TILE / 8; ++j) {
        int at = ((simd * H + h) * 8 + r) * ROW + quarter * QUARTER + 2 * j;
        parts[at] = scores[h][j].thread_elements()[0];
        parts[at + 1] = scores[h][j].thread_elements()[1];
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = 0; i < OWN; ++i) {
      int head = simd + i * SIMDS;
      if (head < 8 * H) {
        float score = 0;
        for (int s = 0; lane < TILE && s < SIMDS; ++s) {
          score += parts[(s * 8 * H + head) * ROW + lane];
        }
        bool seen = lane < TILE && start + lane <= position;
        score = seen ? score * scale : MASKED;
        float most = precise::max(top[i], simd_max(score));
        float factor = fast::exp2(top[i] - most);
        M weight = M(seen ? fast::exp2(score - most) : 0.0f);
        sum[i] = sum[i] * factor + simd_sum(float(weight));
        top[i] = most;
        if (lane < TILE) {
          weights[lane * STEP + head] = weight;
        }
        if (lane == 0) {
          factors[head] = factor;
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (simd * W < V) {
      for (int h = 0; h < H; ++h) {
        for (int e = 0; e < 2; ++e) {
          float factor = factors[h * 8 + c + e];
#pragma unroll
          for (int f = 0; f < FRAGMENTS; ++f) {
            outs[f][h].thread_elements()[e] *= factor;
          }
        }
      }
#pragma unroll
      for (int j = 0; j < TILE / 8; ++j) {
        Operand taken[H];
        for (int h = 0; h < H; ++h) {
          int at = (QUARTER * (r / 2) + 2 * j + r % 2) * STEP + h * 8 + c;
          taken[h].thread_elements()[0] = weights[at];
          taken[h].thread_elements()[1] = weights[at + 1];
        }
#pragma unroll
        for (int f = 0; f < FRAGMENTS; ++f) {
          Operand value = fragment_of<M, K, PACK>(words, scales, biases, f, j);
          for (int h = 0; h < H; ++h) {
            simdgroup_multiply_accumulate(outs[f][h], value, taken[h], outs[f][h]);
          }
        }
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int i = 0; i < OWN; ++i) {
    int head = simd + i * SIMDS;
    if (head < 8 * H && lane == 0) {
      factors[head] = first < last ? 1 / sum[i] : 0.0f;
      if (head0 + head < HEADS) {
        float weight = first < last ? top[i] + fast::log2(sum[i]) : MASKED;
        lse[(row * splits + split) * HEADS + head0 + head] = weight;
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int h = 0; h < H; ++h) {
    for (int e = 0; e < 2; ++e) {
      int head = head0 + h * 8 + c + e;
      float factor = factors[h * 8 + c + e];
#pragma unroll
      for (int f = 0; f < FRAGMENTS; ++f) {
        int d = simd * W + f * 8 + r;
        if (head < HEADS && d < V) {
          out[((row * splits + split) * HEADS + head) * V + d] =
              T(outs[f][h].thread_elements()[e] * factor);
        }
      }
    }
  }
}

// instantiations
#define LATENT(name, T, K, M, pack, append)                                                        \
  template [[host_name(name)]] [[kernel]] decltype(                                                \
      latent_attention<T, K, M, 16, 576, 512, 64, pack, 512, 32, true, true, append>)              \
      latent_attention<T, K, M, 16, 576, 512, 64, pack, 512, 32, true, true, append>;
LATENT("latent_attention_half_tail", half, half, half, 1, 1)
LATENT("latent_attention_half_in_place", half, half, half, 1, 2)
LATENT("latent_attention_bfloat_tail", bfloat, bfloat, float, 1, 1)
LATENT("latent_attention_bfloat_in_place", bfloat, bfloat, float, 1, 2)
LATENT("latent_attention_float_tail", float, float, float, 1, 1)
LATENT("latent_attention_half_8_tail", half, int8_t, half, 1, 1)
LATENT("latent_attention_half_4_in_place", half, uint8_t, half, 2, 2)
