// Pairs of token and expert by expert, in a stable counting sort, and the tiles they fall into.
//
// One threadgroup for all pairs (up to 65536). Its simdgroups split the pairs into stretches; each
// counts its stretch's experts 32 pairs at a time: lanes find their equals by one ballot a bit of
// the expert's number, and the first of them adds up for all, so that there are no atomics and the
// order is always the same. Then a column of counts a thread, a prefix sum over experts, and once
// more over the pairs to their places. The floor is the pairs read and written, some kilobytes;
// what takes time is the number of turns, pairs / 32 / SIMDGROUPS.
#include <metal_stdlib>
using namespace metal;

// The lanes whose pairs are of this lane's expert; for a lane past the end none (and ctz is 32).
template <int EXPERTS>
inline uint peers_of(uint expert, bool valid) {
  uint peers = uint(simd_vote::vote_t(simd_ballot(valid)));
  for (uint bit = 1; bit < EXPERTS; bit *= 2) {
    bool has = bool(expert & bit);
    uint votes = uint(simd_vote::vote_t(simd_ballot(has)));
    peers &= has ? votes : ~votes;
  }
  return peers;
}

// tiles: how many there are, then the expert and the first place of each; `tile` places or fewer.
template <int EXPERTS>
[[kernel]] void moe_sort(
    const device int* chosen [[buffer(0)]],
    constant int& pairs [[buffer(1)]],
    constant int& tile [[buffer(2)]],
    device int* order [[buffer(3)]],
    device int* offsets [[buffer(4)]],
    device int* tiles [[buffer(5)]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  constexpr uint SIMDGROUPS = EXPERTS <= 256 ? 16 : 8;
  threadgroup uint counts[SIMDGROUPS * EXPERTS];
  threadgroup uint starts[EXPERTS];
  uint lane = thread_index_in_simdgroup;
  uint stretch = (uint(pairs) + 32 * SIMDGROUPS - 1) / (32 * SIMDGROUPS) * 32;
  uint begin = simdgroup_index_in_threadgroup * stretch;
  uint end = min(uint(pairs), begin + stretch);
  threadgroup uint* mine = counts + simdgroup_index_in_threadgroup * EXPERTS;
  for (uint expert = lane; expert < EXPERTS; expert += 32) {
    mine[expert] = 0;
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  for (uint at = begin; at < end; at += 32) {
    bool valid = at + lane < end;
    uint expert = valid ? uint(chosen[at + lane]) : 0;
    uint peers = peers_of<EXPERTS>(expert, valid);
    if (ctz(peers) == lane) {
      mine[expert] += popcount(peers);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint expert = thread_index_in_threadgroup; expert < EXPERTS; expert += 32 * SIMDGROUPS) {
    uint total = 0;
    for (uint i = 0; i < SIMDGROUPS; i++) {
      uint count = counts[i * EXPERTS + expert];
      counts[i * EXPERTS + expert] = total;
      total += count;
    }
    starts[expert] = total;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup_index_in_threadgroup == 0) {
    uint place = 0;
    uint number = 0;
    for (uint block = 0; block < EXPERTS; block += 32) {
      uint expert = block + lane;
      uint count = expert < EXPERTS ? starts[expert] : 0;
      uint needed = (count + tile - 1) / tile;
      uint start = place + simd_prefix_exclusive_sum(count);
      uint first = number + simd_prefix_exclusive_sum(needed);
      for (uint i = 0; i < needed; i++) {
        tiles[1 + 2 * (first + i)] = expert;
        tiles[2 + 2 * (first + i)] = start + i * tile;
      }
      if (expert < EXPERTS) {
        starts[expert] = start;
        offsets[expert] = start;
      }
      place += simd_sum(count);
      number += simd_sum(needed);
    }
    if (lane == 0) {
      offsets[EXPERTS] = place;
      tiles[0] = number;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint at = begin; at < end; at += 32) {
    bool valid = at + lane < end;
    uint expert = valid ? uint(chosen[at + lane]) : 0;
    uint peers = peers_of<EXPERTS>(expert, valid);
    uint rank = popcount(peers & ((1u << lane) - 1));
    if (valid) {
      order[starts[expert] + mine[expert] + rank] = at + lane;
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    if (valid && rank == 0) {
      mine[expert] += popcount(peers);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
}

// instantiations
template [[host_name("moe_sort_64")]] [[kernel]] decltype(moe_sort<64>) moe_sort<64>;
template [[host_name("moe_sort_512")]] [[kernel]] decltype(moe_sort<512>) moe_sort<512>;
