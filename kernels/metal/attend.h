// A threadgroup's part of a decoding step's attention: a row, a key head, a split of the pages.
//
// Simdgroups take whole pages in turns, H query heads at a time; a page's scores end up one a lane,
// which makes one exp2 of each. Every threadgroup prepares the queries, and the step's key and
// value, for itself; it never reads back what this dispatch wrote. The simdgroups' sums meet
// pairwise.
#pragma once
#include "page.h"

enum { SIMDS = 4 };
// What `layer` begins with; the norms of queries and keys and the sinks follow.
enum { SCALE, CAP, EPS, PAIRS, TURNED_FROM, INTERLEAVED, WINDOW, Q_NORM, K_NORM, SINKS, NORMS = 12 };
// What a row of `step` begins with; its pages follow.
enum { POSITION, START, BEFORE, TABLE = 4 };

// A head's vector, normalised and turned, a dimension at a time.
template <typename T, int D>
struct Vector {
  const device T* x;
  const device float* layer;
  const device float* cosines;
  const device float* sines;
  int norm;
  float scale;

  Vector(const device T* x_, const device float* l, const device float* c, const device float* s,
         int norm_, int lane)
      : x(x_), layer(l), cosines(c), sines(s), norm(norm_) {
    float sum = 0;
    for (int d = lane; d < D && layer[norm] != 0; d += 32) {
      sum += float(x[d]) * float(x[d]);
    }
    scale = precise::rsqrt(simd_sum(sum) / D + layer[EPS]);
  }

  float normed(int d) {
    const float own = float(x[d]);
    return layer[norm] != 0 ? own * scale * layer[NORMS + (norm - Q_NORM) * D + d] : own;
  }

  float turned(int d) {
    const int pairs = int(layer[PAIRS]);
    const int k = d - int(layer[TURNED_FROM]);
    if (k < 0 || k >= 2 * pairs) {
      return normed(d);
    }
    const bool next = layer[INTERLEAVED] != 0;
    const bool first = next ? k % 2 == 0 : k < pairs;
    const int apart = next ? 1 : pairs;
    const int pair = next ? k / 2 : k % pairs;
    const float other = normed(first ? d + apart : d - apart);
    return normed(d) * cosines[pair] + (first ? -other : other) * sines[pair];
  }
};

// P: the kind of pages. What it stores of the step's token lies where the kernel says.
template <typename T, typename P, int D, int V, int G, int H, int MODE, bool SPLIT>
struct Attention {
  enum {
    BLOCKS = (G + H - 1) / H,
    QUERY = 16 * P::PER * P::BLOCKS,
    SUMS = 4 * P::CHUNKS + 2,
    QUERIES = H * QUERY / 4,
    MEETING = SIMDS / 2 * H * SUMS * 8,
    SHARED = QUERIES > MEETING ? QUERIES : MEETING
  };

  P page;
  float top[H];
  float total[H];
  float4 sum[H][P::CHUNKS];

  void write_query(Vector<T, D> x, threadgroup float* query) {
    for (int place = page.lane; place < QUERY; place += 32) {
      const int d = P::dimension(place);
      query[place] = d < 0 ? 0.0f : x.turned(d) * x.layer[SCALE];
    }
  }

  void write_token(Vector<T, D> key, const device T* value) {
    for (int d = page.lane; d < D + page.lane; d += GROUP) {
      page.put(true, d < D ? key.turned(d) : 0.0f, d / GROUP);
    }
    for (int d = page.lane; d < V + page.lane; d += GROUP) {
      page.put(false, d < V ? float(value[d]) : 0.0f, d / GROUP);
    }
  }

  void rescale(int h, float other) {
    const float new_top = precise::max(top[h], other);
    const float factor = fast::exp2(top[h] - new_top);
    top[h] = new_top;
    total[h] *= factor;
    for (int i = 0; i < P::CHUNKS; i++) {
      sum[h][i] *= factor;
    }
  }

  // A page's scores, weights and values; this lane's token is to be seen or not.
  template <bool EDGE>
  void add_page(threadgroup const float4* queries, float cap, bool seen) {
    float4 scores[H] = {};
    page.template add_scores<EDGE>(queries, scores);
    float weights[H];
#pragma unroll
    for (int h = 0; h < H; h++) {
      float score = own_score(scores[h], page.lane);
      score = cap != 0 ? cap * precise::tanh(score) : score;
      score = seen ? score : LOWEST;
      rescale(h, simd_max(score));
      weights[h] = seen ? fast::exp2(score - top[h]) : 0.0f;
      total[h] += weights[h];
    }
    page.template add_values<EDGE>(weights, sum);
  }

  // The upper half of the simdgroups hands its sums to the lower half until one has them all.
  void meet(threadgroup float* shared, uint simd) {
    for (uint rest = SIMDS / 2; rest > 0; rest /= 2) {
      threadgroup float* mine = shared + simd % rest * (H * SUMS * 32) + page.lane;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      const bool gives = simd >= rest && simd < 2 * rest;
#pragma unroll
      for (int h = 0; h < H && gives; h++) {
        mine[h * SUMS * 32] = top[h];
        mine[h * SUMS * 32 + 32] = total[h];
#pragma unroll
        for (int i = 0; i < SUMS - 2; i++) {
          mine[(h * SUMS + i + 2) * 32] = sum[h][i / 4][i % 4];
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
      for (int h = 0; h < H && simd < rest; h++) {
        const float other = mine[h * SUMS * 32];
        rescale(h, other);
        const float factor = fast::exp2(other - top[h]);
        total[h] += mine[h * SUMS * 32 + 32] * factor;
#pragma unroll
        for (int i = 0; i < SUMS - 2; i++) {
          sum[h][i / 4][i % 4] += mine[(h * SUMS + i + 2) * 32] * factor;
        }
      }
    }
  }

  void write_values(int h, float factor, device T* out) {
    for (int chunk = 0; chunk < P::CHUNKS; chunk++) {
      float4 value = sum[h][chunk] * factor;
      for (ushort apart = P::LANES; apart < 32; apart *= 2) {
        value += simd_shuffle_xor(value, apart);
      }
      const int slot = page.lane % P::LANES + 32 * chunk;
      if (page.lane < P::LANES && 4 * slot < V) {
        const int first = P::first(slot);
        const int second = P::second(slot);
        out[first] = T(value[0]);
        out[first + 1] = T(value[1]);
        out[second] = T(value[2]);
        out[second + 1] = T(value[3]);
      }
    }
  }

  // The tails of the step before begin at step[BEFORE].
  template <typename A>
  void run(
      const device T* qkv, const device float* layer, const device float* cosines,
      const device float* sines, const device int* step,
      A pool, A tail, device T* out,
      threadgroup float4* shared, uint3 place, uint3 places, int simd) {
    const int kv_heads = places.y / BLOCKS;
    const int kv_head = place.y / BLOCKS;
    const int block = place.y % BLOCKS * H;
    const int head = kv_head * G + block;
    const size_t row = place.z;
    cosines += row * int(layer[PAIRS]);
    sines += row * int(layer[PAIRS]);
    qkv += row * (kv_heads * ((G + 1) * D + V));
    const device T* keys = qkv + kv_heads * G * D;
    for (int task = simd; task < H + (MODE != READ); task += SIMDS) {
      const bool query = task < H;
      const device T* x = query ? qkv + (kv_head * G + min(block + task, G - 1)) * D
                                : keys + kv_head * D;
      Vector<T, D> vector(x, layer, cosines, sines, query ? Q_NORM : K_NORM, page.lane);
      if (query) {
        write_query(vector, (threadgroup float*)shared + task * QUERY);
      } else {
        write_token(vector, keys + kv_heads * D + kv_head * V);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const int position = step[POSITION];
    const int start = step[START];
    const int window = int(layer[WINDOW]);
    const int low = window > 0 ? max(0, position + 1 - window) : 0;
    const int stop = (position >> 5) + 1;
    const int first = (MODE == TAIL ? min(low, start) : low) / PAGE;
    const int pages = max(0, stop - first);
    const int begin = first + pages * int(place.x) / int(places.x);
    const int end = first + pages * int(place.x + 1) / int(places.x);
    for (int h = 0; h < H; h++) {
      top[h] = LOWEST;
    }
    for (int i = begin + simd; i < end; i += SIMDS) {
      const int at = i * PAGE;
      const bool late = MODE == TAIL && at >= start;
      const bool tailed = late && at >= step[BEFORE];
      page.from = pool;
      if (tailed) {
        page.from = tail;
      }
      page.index = tailed ? row * 2 + (at - step[BEFORE]) / PAGE : step[TABLE + i];
      page.into = late ? row * 2 + (at - start) / PAGE : page.index;
      page.index = page.index * kv_heads + kv_head;
      page.into = page.into * kv_heads + kv_head;
      page.fresh = position - at;
      page.held = MODE == READ ? page.fresh + 1 : page.fresh;
      page.stores = block == 0 && (late || MODE == IN_PLACE);
      const int own = at + own_token(page.lane);
      const bool seen = own >= low && own <= position;
      if (page.held >= PAGE && !late) {
        add_page<false>(shared, layer[CAP], seen);
      } else {
        add_page<true>(shared, layer[CAP], seen);
      }
    }
    meet((threadgroup float*)shared, simd);
#pragma unroll
    for (int h = 0; h < H && block + h < G && simd == 0; h++) {
      if (!SPLIT && layer[SINKS] != 0) {
        const float sink = layer[NORMS + 2 * D + head + h] * M_LOG2E_F;
        rescale(h, sink);
        total[h] += page.lane == 0 ? fast::exp2(sink - top[h]) : 0.0f;
      }
      const float all = simd_sum(total[h]);
      const float factor = all > 0 ? 1 / all : all;
      device T* mine = out + (row * (kv_heads * G) + head + h) * V;
      if (SPLIT) {
        mine = out + ((row * (kv_heads * G) + head + h) * places.x + place.x) * (V + 4);
        if (page.lane == 0) {
          *(device float2*)(mine + V) = float2(top[h], all);
        }
      }
      write_values(h, factor, mine);
    }
  }
};
