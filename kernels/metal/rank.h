// Ranking a row of a vocabulary with one threadgroup: larger values first, equal ones by token id.
#pragma once

constexpr constant uint THREADS = 512;
constexpr constant uint SIMDS = THREADS / 32;
constexpr constant uint EACH = 8;             // values that a thread loads together
constexpr constant uint SPAN = 32 * EACH;     // and a simdgroup
constexpr constant uint MOST = 2 * THREADS;   // candidates that are ranked in threadgroup memory
constexpr constant uint LOWEST = 0x007fffffu; // the key of -infinity

// Larger values have larger keys; the two zeros share one.
inline uint key_of(float value) {
  uint bits = as_type<uint>(value);
  bits = bits == 0x80000000u ? 0u : bits;
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

inline float value_of(uint key) {
  return as_type<float>(key ^ (key >> 31 ? 0x80000000u : 0xffffffffu));
}

// What orders candidates, and tells their ids: no two are alike.
inline ulong candidate(uint key, uint id) {
  return ulong(key) << 32 | ~id;
}

// EACH values from `at` on, which is in the row; -infinity beyond its end.
template <typename T>
inline void load_each(const device T* row, uint size, uint at, thread float* v) {
  if (size % EACH == 0) { // every row is then aligned to its vectors
    vec<T, 4> a = *(const device vec<T, 4>*)(row + at);
    vec<T, 4> b = *(const device vec<T, 4>*)(row + at + 4);
    for (uint i = 0; i < 4; ++i) {
      v[i] = float(a[i]);
      v[i + 4] = float(b[i]);
    }
  } else {
    for (uint i = 0; i < EACH; ++i) {
      v[i] = at + i < size ? float(row[at + i]) : -INFINITY;
    }
  }
}

// The largest key of the row and its first id, whether any value is NaN, and a key that few of the
// row reach: the least of what 8 neighbouring threads, each group for itself, found to be largest.
struct Peak {
  uint key;
  uint id;
  uint reached;
  bool broken;
};

inline Peak peak_of(
    Peak mine, uint size, threadgroup uint* part, uint lane, uint simd) {
  uint group = max(mine.key, simd_shuffle_xor(mine.key, 1));
  group = max(group, simd_shuffle_xor(group, 2));
  group = max(group, simd_shuffle_xor(group, 4));
  uint reached = simd_min(group > LOWEST ? group : 0xffffffffu);
  uint key = simd_max(mine.key);
  uint id = simd_min(mine.key == key ? mine.id : 0xffffffffu);
  uint broken = simd_max(uint(mine.broken));
  if (lane == 0) {
    part[4 * simd] = key;
    part[4 * simd + 1] = id;
    part[4 * simd + 2] = reached;
    part[4 * simd + 3] = broken;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  Peak peak = {0, 0, 0xffffffffu, false};
  ulong best = 0;
  for (uint i = 0; i < SIMDS; ++i) {
    best = max(best, candidate(part[4 * i], part[4 * i + 1]));
    peak.reached = min(peak.reached, part[4 * i + 2]);
    peak.broken = peak.broken || part[4 * i + 3];
  }
  peak.key = uint(best >> 32);
  peak.id = ~uint(best);
  peak.reached = size <= MOST ? 0 : peak.reached;
  return peak;
}

// Notes a candidate if there is room; `count` counts them all.
inline void list_item(
    threadgroup ulong* items, threadgroup atomic_uint* count, uint key, uint id) {
  uint place = atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
  if (place < MOST) {
    items[place] = candidate(key, id);
  }
}

// Sorts the first `count` items, largest first; what lies behind them is overwritten.
inline void rank_items(threadgroup ulong* items, uint count, uint thread_index) {
  uint room = 2;
  while (room < count) {
    room *= 2;
  }
  for (uint i = thread_index; i < room; i += THREADS) {
    if (i >= count) {
      items[i] = 0;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint size = 2; size <= room; size *= 2) {
    for (uint gap = size / 2; gap; gap /= 2) {
      uint i = 2 * thread_index - (thread_index & (gap - 1));
      if (i < room) {
        ulong a = items[i];
        ulong b = items[i + gap];
        bool ascending = i & size;
        items[i] = ascending ? min(a, b) : max(a, b);
        items[i + gap] = ascending ? max(a, b) : min(a, b);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
}
