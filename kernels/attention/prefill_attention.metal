// A prompt's run against its context: softmax along the way, in 8x8 fragments of floats.
//
// A threadgroup takes 8 SIMDS rows of one head, a simdgroup 8 of them: its scores, their sums and
// its outputs stay in its registers (outputs: V / 4 a lane, so 16 rows and 2 simdgroups at 256).
// Queries wait in threadgroup memory, and so does one tile of BK keys, then of their values in the
// same place: 26 KB for 192 of 16 bits, two threadgroups a core. A run is bound by arithmetic: each
// key is read by every 8 SIMDS rows, and rows pad to 16 bytes so that lanes fall on distinct banks.
// Tiles that the causal or the window's edge hides from all rows are not visited.

#include <metal_stdlib>
#include "fragment.h"
using namespace metal;

constant constexpr float MASKED = -3.0e38f;

inline float row_top(float value) {
  value = precise::max(value, simd_shuffle_xor(value, 1));
  return precise::max(value, simd_shuffle_xor(value, 8));
}

template <
    typename T, int HEADS, int KV_HEADS, int D, int V, int SIMDS, int BK, bool SOFTCAP,
    bool SINKS>
[[kernel]] void prefill_attention(
    const device T* q [[buffer(0)]],
    const device T* keys [[buffer(1)]],
    const device T* values [[buffer(2)]],
    const device float* sinks [[buffer(3)]],
    constant int& rows [[buffer(4)]],
    constant int& context [[buffer(5)]],
    constant int& stride [[buffer(6)]],
    constant int& window [[buffer(7)]],
    constant float& scale [[buffer(8)]],
    constant float& cap [[buffer(9)]],
    device T* out [[buffer(10)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  constexpr int BQ = 8 * SIMDS;
  constexpr int PAD = 16 / sizeof(T);
  constexpr int WIDE = D + PAD;
  constexpr int DEEP = V + PAD;
  constexpr int BLOCKS = BK / 8;
  constexpr float LOG2_E = 1.4426950408889634f;
  threadgroup T queries[BQ * WIDE];
  threadgroup T tile[BK * (D > V ? WIDE : DEEP)];
  int lane = thread_index_in_simdgroup;
  int r = fragment_row(lane);
  int c = fragment_column(lane);
  int head = threadgroup_position_in_grid.y;
  int row0 = threadgroup_position_in_grid.x * BQ;
  int mine = row0 + simdgroup_index_in_threadgroup * 8 + r;
  int position = context - rows + mine;
  const device T* key = keys + ulong(head / (HEADS / KV_HEADS)) * stride * D;
  const device T* value = values + ulong(head / (HEADS / KV_HEADS)) * stride * V;
  for (int i = thread_index_in_threadgroup; i < BQ * D; i += 32 * SIMDS) {
    int row = row0 + i / D;
    bool is_row = row < rows;
    queries[i / D * WIDE + i % D] = is_row ? q[(row * HEADS + head) * D + i % D] : T(0);
  }
  Fragment outs[V / 8];
  UNROLLED
  for (int f = 0; f < V / 8; ++f) {
    set(outs[f], 0.0f, 0.0f);
  }
  float top = MASKED;
  float sum = 0;
  int seen = context - rows + row0;
  int first = window > 0 ? max(0, seen - window + 1) / BK * BK : 0;
  int last = min(context, seen + BQ);
  for (int start = first; start < last; start += BK) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = thread_index_in_threadgroup; i < BK * D / 4; i += 32 * SIMDS) {
      vec<T, 4> four = ((const device vec<T, 4>*)(key + ulong(start) * D))[i];
      *(threadgroup vec<T, 4>*)(tile + i / (D / 4) * WIDE + i % (D / 4) * 4) = four;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    Fragment scores[BLOCKS];
    UNROLLED
    for (int j = 0; j < BLOCKS; ++j) {
      set(scores[j], 0.0f, 0.0f);
    }
    for (int f = 0; f < D / 8; ++f) {
      Fragment left;
      int at = (simdgroup_index_in_threadgroup * 8 + r) * WIDE + f * 8 + c;
      set(left, queries[at], queries[at + 1]);
      UNROLLED
      for (int j = 0; j < BLOCKS; ++j) {
        Fragment right;
        int from = (j * 8 + c) * WIDE + f * 8 + r;
        set(right, tile[from], tile[from + WIDE]);
        simdgroup_multiply_accumulate(scores[j], left, right, scores[j]);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = thread_index_in_threadgroup; i < BK * V / 4; i += 32 * SIMDS) {
      vec<T, 4> four = ((const device vec<T, 4>*)(value + ulong(start) * V))[i];
      *(threadgroup vec<T, 4>*)(tile + i / (V / 4) * DEEP + i % (V / 4) * 4) = four;
    }
    float most = top;
    bool visible[BLOCKS][2];
    UNROLLED
    for (int j = 0; j < BLOCKS; ++j) {
      for (int e = 0; e < 2; ++e) {
        int at = start + j * 8 + c + e;
        float score = scores[j].thread_elements()[e] * scale;
        score = SOFTCAP ? cap * precise::tanh(score / cap) : score;
        visible[j][e] = at <= position && (window <= 0 || at > position - window);
        score = visible[j][e] ? score * LOG2_E : MASKED;
        scores[j].thread_elements()[e] = score;
        most = precise::max(most, score);
      }
    }
    most = row_top(most);
    float factor = fast::exp2(top - most);
    float added = 0;
    UNROLLED
    for (int j = 0; j < BLOCKS; ++j) {
      for (int e = 0; e < 2; ++e) {
        float score = scores[j].thread_elements()[e];
        float weight = visible[j][e] ? fast::exp2(score - most) : 0.0f;
        scores[j].thread_elements()[e] = weight;
        added += weight;
      }
    }
    sum = sum * factor + row_sum(added);
    top = most;
    UNROLLED
    for (int f = 0; f < V / 8; ++f) {
      set(outs[f], outs[f].thread_elements()[0] * factor, outs[f].thread_elements()[1] * factor);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    UNROLLED
    for (int f = 0; f < V / 8; ++f) {
      UNROLLED
      for (int j = 0; j < BLOCKS; ++j) {
        Fragment right;
        int from = (j * 8 + r) * DEEP + f * 8 + c;
        set(right, tile[from], tile[from + 1]);
        simdgroup_multiply_accumulate(outs[f], scores[j], right, outs[f]);
      }
    }
  }
  float factor = 1;
  if (SINKS) {
    float sink = sinks[head] * LOG2_E;
    float most = precise::max(top, sink);
    factor = fast::exp2(top - most);
    sum = sum * factor + fast::exp2(sink - most);
  }
  factor /= sum;
  UNROLLED
  for (int f = 0; f < V / 8; ++f) {
    for (int e = 0; e < 2; ++e) {
      if (mine < rows) {
        T result = T(outs[f].thread_elements()[e] * factor);
        out[(mine * HEADS + head) * V + f * 8 + c + e] = result;
      }
    }
  }
}

// instantiations
#define PREFILL(name, T, kv_heads, D, V, simds, keys_, softcap, sinks_)                            \
  template [[host_name(name)]] [[kernel]] decltype(                                                \
      prefill_attention<T, 16, kv_heads, D, V, simds, keys_, softcap, sinks_>)                     \
      prefill_attention<T, 16, kv_heads, D, V, simds, keys_, softcap, sinks_>;
PREFILL("prefill_attention_half_192", half, 16, 192, 128, 4, 32, false, false)
PREFILL("prefill_attention_bfloat_192", bfloat, 16, 192, 128, 4, 32, false, false)
PREFILL("prefill_attention_half_256", half, 8, 256, 256, 2, 16, true, false)
PREFILL("prefill_attention_bfloat_64", bfloat, 2, 64, 64, 4, 32, false, true)
PREFILL("prefill_attention_float_128", float, 4, 128, 128, 2, 8, false, false)
