// The choice of a token's experts from its logits, by one simdgroup.
#pragma once

// What `rules` holds; the order is route_metal.py's.
enum { PICKS, SIGMOID, NORMALISE, GROUPS, KEPT, BEST_TWO, CORRECTED };

// Bit g says that group g is among the `kept` best, of equals the first ones; lane g scores it.
inline uint best_groups(
    threadgroup const float* choices, int experts, int groups, int kept, bool two, uint lane) {
  int size = experts / groups;
  float best = -INFINITY;
  float second = -INFINITY;
  for (int i = 0; i < size && int(lane) < groups; i++) {
    float value = choices[lane * size + i];
    second = precise::max(second, precise::min(best, value));
    best = precise::max(best, value);
  }
  float score = two && size > 1 ? best + second : best;
  int better = 0;
  for (int other = 0; other < groups; other++) {
    float rival = simd_shuffle(score, ushort(other));
    better += rival > score || (rival == score && other < int(lane));
  }
  return simd_or(better < kept ? 1u << lane : 0u);
}

// scores: EXPERTS logits, which this overwrites; lane i writes the i-th best expert and its weight.
// Lane l looks after experts l, l + 32, ..., so that the least index among a round's equals is the
// first expert. A token with a NaN takes its experts as if all logits were alike.
template <int EXPERTS, typename C, typename R>
inline void choose_experts(
    threadgroup float* scores,
    threadgroup float* choices,
    C correction,
    R rules,
    float scale,
    uint lane,
    device int* indices,
    device float* weights) {
  constexpr int EACH = (EXPERTS + 31) / 32;
  float value[EACH];
  float top = -INFINITY;
  bool odd = false;
  for (int i = 0; i < EACH; i++) {
    int expert = i * 32 + int(lane);
    value[i] = expert < EXPERTS ? scores[expert] : -INFINITY;
    odd = odd || isnan(value[i]);
    top = precise::max(top, value[i]);
  }
  top = simd_max(top);
  float total = 0;
  for (int i = 0; i < EACH; i++) {
    value[i] = rules[SIGMOID] ? 1.0f / (1.0f + precise::exp(-value[i])) : precise::exp(value[i] - top);
    total += value[i];
  }
  total = rules[SIGMOID] ? 1.0f : simd_sum(total);
  bool broken = simd_any(odd || isnan(total));
  for (int i = 0; i < EACH; i++) {
    int expert = i * 32 + int(lane);
    if (expert < EXPERTS) {
      scores[expert] = value[i] / total;
      value[i] = broken ? 0.0f : scores[expert];
      value[i] += rules[CORRECTED] ? correction[expert] : 0.0f;
      choices[expert] = value[i] = isnan(value[i]) ? -INFINITY : value[i];
    }
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  int groups = rules[GROUPS];
  uint kept =
      groups == 1 ? 1 : best_groups(choices, EXPERTS, groups, rules[KEPT], rules[BEST_TWO], lane);
  uint taken = 0;
  for (int i = 0; i < EACH; i++) {
    int expert = i * 32 + int(lane);
    bool open = kept >> expert / (EXPERTS / groups) & 1; // past the last expert no group is kept
    taken |= open ? 0u : 1u << i;
  }
  int mine = 0;
  for (int pick = 0; pick < rules[PICKS]; pick++) {
    int expert = EXPERTS;
    float best = -INFINITY;
    for (int i = 0; i < EACH; i++) {
      if (!(taken >> i & 1) && (expert == EXPERTS || value[i] > best)) {
        best = value[i];
        expert = i * 32 + int(lane);
      }
    }
    expert = simd_min(best == simd_max(best) ? expert : EXPERTS);
    taken |= expert % 32 == int(lane) ? 1u << expert / 32 : 0u;
    mine = pick == int(lane) ? expert : mine;
  }
  bool writes = int(lane) < rules[PICKS];
  float weight = writes ? scores[mine] : 0.0f;
  total = rules[NORMALISE] ? simd_sum(weight) : 1.0f;
  if (writes) {
    indices[lane] = mine;
    weights[lane] = broken ? NAN : weight / total * scale;
  }
}
