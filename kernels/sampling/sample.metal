// Draws one token a row: sparse edits, a grammar's mask, temperature, top-k, top-p, min-p.
//
// A threadgroup takes a row. Pass 1 finds the largest value (greedy ends there) and a value that a
// few hundred tokens reach. Pass 2 weighs all tokens and lists those few hundred, which are then
// sorted; cuts and draw nearly always fall among them. Where one does not, histograms of how many
// and how heavy the tokens are, first over bins of equal ratio, then over the keys of one bin, lead
// to a bin of at most MOST tokens or of equal ones: a pass each, and one to list it. A draw without
// cuts inverts the sum in the order of ids: a pass that weighs each SPAN tokens, of which one span
// is looked into.
//
// Weights are whole numbers, 2^41 for the likeliest token: their sums do not depend on the order,
// so no rounding comes between a cut and the draw, and a row always gives the same token.
// Least bytes: the logits once. Moved: once if greedy, else twice.
#include <metal_stdlib>
using namespace metal;
#include "rank.h"

constexpr constant uint GREEDY = 0;
constexpr constant uint PLAIN = 1; // any other mode: with cuts
constexpr constant float WHOLE = 2199023255552.0f;
constexpr constant float DEPTH = 41.0f; // halvings after which nothing is left of WHOLE

inline ulong moved_up(ulong x, ushort by) {
  uint2 words = as_type<uint2>(x);
  return as_type<ulong>(uint2(simd_shuffle_up(words.x, by), simd_shuffle_up(words.y, by)));
}

// The sum of x over the threads up to this one, and over all.
inline ulong running(
    ulong x, threadgroup ulong* part, uint lane, uint simd, thread ulong& total) {
  for (ushort by = 16; by; by /= 2) {
    ulong other = moved_up(x, by);
    x += lane >= by ? other : 0;
  }
  if (lane == 31) {
    part[simd] = x;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  total = 0;
  for (uint i = 0; i < SIMDS; ++i) {
    x += i < simd ? part[i] : 0;
    total += part[i];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return x;
}

inline ulong sum_over(ulong x) {
  for (ushort by = 16; by; by /= 2) {
    uint2 words = as_type<uint2>(x);
    x += as_type<ulong>(uint2(simd_shuffle_xor(words.x, by), simd_shuffle_xor(words.y, by)));
  }
  return x;
}

// whole * fraction / 2^32, rounded down.
inline ulong share(ulong whole, uint fraction) {
  return (whole >> 32) * fraction + ((whole & 0xffffffffu) * fraction >> 32);
}

template <typename T, bool EDITED, bool MASKED>
struct Row {
  const device T* logits;
  const device int* ids; // of the edits, ascending in each of a row's two lists
  const device float* changes;
  const device uint* allowed;
  const threadgroup uint* touched; // a bit for each EACH tokens: whether one of them is edited
  uint size;
  uint4 bounds; // of the edits that last, and of those that count instead
  float peak;
  float rate; // of halving

  void load(uint at, thread float* v) const {
    load_each(logits, size, at, v);
    if (EDITED && touched[at / SPAN] >> (at / EACH % 32) & 1) {
      float source[EACH];
      for (uint i = 0; i < EACH; ++i) {
        source[i] = v[i];
      }
      edit(at, source, bounds.x, bounds.y, v);
      edit(at, source, bounds.z, bounds.w, v);
    }
    if (MASKED) {
      uint bits = allowed[at / 32] >> at % 32;
      for (uint i = 0; i < EACH; ++i) {
        v[i] = bits >> i & 1 ? v[i] : -INFINITY;
      }
    }
  }

  void edit(uint at, const thread float* source, uint low, uint last, thread float* v) const {
    uint high = last;
    while (low < high) {
      uint middle = (low + high) / 2;
      bool before = uint(ids[middle]) < at;
      low = before ? middle + 1 : low;
      high = before ? high : middle;
    }
    for (uint i = 0; i < EACH; ++i) {
      if (low < last && uint(ids[low]) == at + i) {
        float sum = source[i] + changes[3 * low];
        float penalty = changes[3 * low + 1];
        v[i] = (sum > 0 ? sum / penalty : sum * penalty) - changes[3 * low + 2];
        ++low;
      }
    }
  }

  float chance(float value) const {
    const float power = precise::exp2((value - peak) * rate);
    return value == peak ? 1.0f : precise::min(power, 1.0f);
  }

  ulong weight(float value) const {
    return ulong(chance(value) * WHOLE);
  }

  // By how far below the peak; never larger for a larger value.
  uint bin(float value) const {
    return uint(precise::min((peak - value) * rate * (THREADS / DEPTH), float(THREADS - 1)));
  }

  // The least key in this bin or one before it.
  uint edge(uint wanted) const {
    uint low = LOWEST;
    uint high = key_of(peak);
    while (low < high) {
      uint middle = low + (high - low) / 2;
      bool inside = bin(value_of(middle)) <= wanted;
      high = inside ? middle : high;
      low = inside ? low : middle + 1;
    }
    return low;
  }

  bool inside(float value, uint low, uint high) const {
    uint key = key_of(value);
    return key >= low && key <= high && weight(value) != 0;
  }

  // Lists the tokens whose keys lie in [low, high], or, by id, weighs those of each span. Returns
  // what this thread's tokens weigh, whatever their keys; `likely`: those of at least `min_chance`.
  ulong gather(
      uint low,
      uint high,
      bool by_id,
      float min_chance,
      threadgroup ulong* items,
      threadgroup atomic_uint* count,
      uint lane,
      uint simd,
      thread ulong& likely) const {
    if (simd == 0 && lane == 0) {
      atomic_store_explicit(count, 0, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    ulong all = 0;
    float v[EACH];
    for (uint span = simd; span * SPAN < size; span += SIMDS) {
      uint at = span * SPAN + lane * EACH;
      ulong here = 0;
      if (at < size) {
        load(at, v);
        for (uint i = 0; i < EACH; ++i) {
          ulong mass = weight(v[i]);
          all += mass;
          likely += chance(v[i]) >= min_chance ? mass : 0;
          if (inside(v[i], low, high)) {
            here += mass;
            if (!by_id) {
              list_item(items, count, key_of(v[i]), at + i);
            }
          }
        }
      }
      if (by_id) {
        here = sum_over(here);
        if (lane == 0) {
          items[span] = here;
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return all;
  }

  // What an item of such a list weighs.
  ulong item(const threadgroup ulong* items, uint i, uint count, bool by_id) const {
    ulong item = i < count ? items[i] : 0;
    return by_id || item == 0 ? item : weight(value_of(uint(item >> 32)));
  }

  // How many tokens with keys in [low, high] fall into each bin, and what they weigh.
  void fill(
      uint low,
      uint high,
      bool first,
      uint shift,
      threadgroup atomic_uint* bins,
      uint index) const {
    for (uint i = 0; i < 4; ++i) {
      atomic_store_explicit(bins + 4 * index + i, 0, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float v[EACH];
    for (uint at = index * EACH; at < size; at += THREADS * EACH) {
      load(at, v);
      for (uint i = 0; i < EACH; ++i) {
        if (inside(v[i], low, high)) {
          ulong mass = weight(v[i]);
          uint place = 4 * (first ? bin(v[i]) : (high - key_of(v[i])) >> shift);
          uint pieces[4] = {1, uint(mass) & 0x3fff, uint(mass >> 14) & 0x3fff, uint(mass >> 28)};
          for (uint j = 0; j < 4; ++j) {
            if (pieces[j]) {
              atomic_fetch_add_explicit(bins + place + j, pieces[j], memory_order_relaxed);
            }
          }
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
};

template <typename T, bool EDITED, bool MASKED>
[[kernel]] void sample(
    const device T* logits [[buffer(0)]],
    const device uint* settings [[buffer(1)]],
    const device int* ids [[buffer(2)]],
    const device float* changes [[buffer(3)]],
    const device uint* allowed [[buffer(4)]],
    constant int& vocabulary [[buffer(5)]],
    device int* tokens [[buffer(6)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup ulong items[MOST];             // candidates, or the weight of each span
  threadgroup atomic_uint bins[4 * THREADS]; // how many; the weight's 14 low bits, 14 more, the rest
  threadgroup uint touched[MOST];
  threadgroup ulong part[SIMDS];
  threadgroup uint parts[4 * SIMDS];
  threadgroup ulong broadcast[4];
  threadgroup atomic_uint count[1];
  const uint index = thread_index_in_threadgroup;
  const uint lane = thread_index_in_simdgroup;
  const uint simd = simdgroup_index_in_threadgroup;
  const uint size = uint(vocabulary);
  const uint here = threadgroup_position_in_grid.x;
  const device uint* row_settings = settings + 10 * here; // mode, rate, top-k, top-p, min-p, uniform, edits
  Row<T, EDITED, MASKED> row;
  row.logits = logits + size_t(here) * size;
  row.ids = ids;
  row.changes = changes;
  row.allowed = allowed + size_t(here) * ((size + 31) / 32);
  row.touched = touched;
  row.size = size;
  row.bounds = uint4(row_settings[6], row_settings[7], row_settings[8], row_settings[9]);
  row.rate = as_type<float>(row_settings[1]);
  if (EDITED) {
    touched[index] = 0;
    touched[index + THREADS] = 0;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const uint lasting = row.bounds.y - row.bounds.x;
    const uint edits = lasting + row.bounds.w - row.bounds.z;
    for (uint i = index; i < edits; i += THREADS) {
      uint id = uint(ids[i < lasting ? row.bounds.x + i : row.bounds.z + i - lasting]);
      threadgroup atomic_uint* word = (threadgroup atomic_uint*)(touched + id / SPAN);
      atomic_fetch_or_explicit(word, 1u << (id / EACH % 32), memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  float v[EACH];
  Peak mine = {0, 0, 0, false};
  for (uint at = index * EACH; at < size; at += THREADS * EACH) {
    row.load(at, v);
    for (uint i = 0; i < EACH; ++i) {
      uint key = key_of(v[i]);
      mine.broken = mine.broken || isnan(v[i]);
      mine.id = key > mine.key ? at + i : mine.id;
      mine.key = max(key, mine.key);
    }
  }
  Peak peak = peak_of(mine, size, parts, lane, simd);
  int token = peak.broken || peak.key <= LOWEST ? -1 : int(peak.id);
  if (row_settings[0] != GREEDY && token >= 0 && peak.key < key_of(INFINITY)) {
    const float min_chance = as_type<float>(row_settings[4]);
    row.peak = value_of(peak.key);
    bool by_id = row_settings[0] == PLAIN;
    uint low = by_id ? 0 : peak.reached;
    uint high = peak.key;
    ulong likely = 0;
    ulong all = row.gather(low, high, by_id, min_chance, items, count, lane, simd, likely);
    ulong total;
    ulong limit; // what min-p leaves
    running(all, part, lane, simd, total);
    running(likely, part, lane, simd, limit);
    const uint spans = (size + SPAN - 1) / SPAN;
    uint listed = by_id ? spans : atomic_load_explicit(count, memory_order_relaxed);
    ulong before = 0; // the weight of what ranks before the items
    ulong inside = 0; // and theirs
    ulong a = 0;      // that of this thread's two
    ulong b = 0;
    ulong upto = 0;
    if (listed <= MOST) {
      if (!by_id) {
        rank_items(items, listed, index);
      }
      a = row.item(items, 2 * index, listed, by_id);
      b = row.item(items, 2 * index + 1, listed, by_id);
      upto = running(a + b, part, lane, simd, inside);
    } else {
      listed = 0;
    }
    ulong whole = total;
    for (uint step = by_id ? 2 : 0; step < 3; ++step) { // top-k, top-p, the draw
      bool by_count = step == 0;
      bool idle = by_count && (row_settings[2] == 0 || (row_settings[2] > listed && inside == total));
      if (idle || (step == 1 && row_settings[3] == 0xffffffffu)) {
        continue;
      }
      whole = step == 2 ? max(min(whole, limit), ulong(1)) : whole;
      ulong goal = by_count ? row_settings[2] - 1 : step == 1 ? share(whole, row_settings[3]) : share(whole, row_settings[5]);
      goal -= step == 1 && goal ? 1 : 0;
      uint behind = 0;
      bool covered = by_count ? goal < listed : goal >= before && goal < before + inside;
      if (!covered) {
        bool first = true;
        low = 0;
        high = peak.key;
        before = 0;
        do {
          uint shift = 0;
          while ((high - low) >> shift >= THREADS) {
            ++shift;
          }
          row.fill(low, high, first, shift, bins, index);
          uint words[4];
          for (uint i = 0; i < 4; ++i) {
            words[i] = atomic_load_explicit(bins + 4 * index + i, memory_order_relaxed);
          }
          a = (ulong(words[3]) << 28) + (ulong(words[2]) << 14) + words[1];
          ulong sum = before + running(a, part, lane, simd, inside);
          ulong many;
          ulong number = behind + running(words[0], part, lane, simd, many);
          goal = by_count && first ? min(goal, many - 1) : goal;
          if (by_count ? number > goal && number - words[0] <= goal : sum > goal && sum - a <= goal) {
            broadcast[0] = index;
            broadcast[1] = sum - a;
            broadcast[2] = number - words[0];
            broadcast[3] = words[0];
          }
          threadgroup_barrier(mem_flags::mem_threadgroup);
          uint bin = uint(broadcast[0]);
          before = broadcast[1];
          behind = uint(broadcast[2]);
          listed = uint(broadcast[3]);
          if (first) {
            high = bin ? row.edge(bin - 1) - 1 : high;
            low = row.edge(bin);
          } else {
            high -= bin << shift;
            low = max(low, high - ((1u << shift) - 1));
          }
          first = false;
        } while (listed > MOST && low < high);
        by_id = listed > MOST; // they are all equal
        if (by_id && by_count) {
          goal = before + (goal - behind) * row.weight(value_of(low));
          by_count = false;
        }
        listed = by_id ? spans : listed;
        row.gather(low, high, by_id, min_chance, items, count, lane, simd, likely);
        if (!by_id) {
          rank_items(items, listed, index);
        }
        a = row.item(items, 2 * index, listed, by_id);
        b = row.item(items, 2 * index + 1, listed, by_id);
        upto = running(a + b, part, lane, simd, inside);
      }
      ulong start = before + upto - a - b;
      uint i = 2 * index;
      uint wanted = uint(goal) - behind;
      bool second = by_count ? wanted > i : goal >= start + a;
      if (by_count ? wanted / 2 == index : goal >= start && goal < before + upto) {
        broadcast[0] = by_id ? i + second : ~uint(items[i + second]);
        broadcast[1] = start + (second ? a : 0);
        broadcast[2] = start + a + (second ? b : 0);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      uint place = uint(broadcast[0]);
      ulong sum = broadcast[1];
      whole = broadcast[2];
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (by_id) {
        uint at = place * SPAN + index * EACH;
        ulong weights[EACH] = {};
        ulong span = 0;
        if (simd == 0 && at < size) {
          row.load(at, v);
          for (uint j = 0; j < EACH; ++j) {
            weights[j] = row.inside(v[j], low, high) ? row.weight(v[j]) : 0;
            span += weights[j];
          }
        }
        ulong ignored;
        sum += running(span, part, lane, simd, ignored) - span;
        for (uint j = 0; j < EACH; ++j) {
          if (goal >= sum && goal < sum + weights[j]) {
            broadcast[0] = at + j;
            broadcast[1] = sum + weights[j];
          }
          sum += weights[j];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        place = uint(broadcast[0]);
        whole = broadcast[1];
        threadgroup_barrier(mem_flags::mem_threadgroup);
      }
      token = int(place);
    }
  }
  if (index == 0) {
    tokens[here] = token;
  }
}

// instantiations
#define SAMPLE(type)                                                                               \
  template [[host_name("sample_" #type)]] [[kernel]] decltype(sample<type, true, true>)            \
      sample<type, true, true>;
SAMPLE(float)
SAMPLE(half)
SAMPLE(bfloat)
