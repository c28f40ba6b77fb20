// A group's scale and bias, from its own numbers or from two levels of them.
//
// Where the middle code stands for 0 (Q4_0, Q5_0, Q8_0) the bias follows from the scale.
// GGUF's K types and IQ4_XS have superblocks of 256 values: one or two factors (16 bits, given as
// the biases), and whole numbers of the groups (given as the scales, in words): a byte a group, or
// 16 of 6 bits in three words, 5 in each and the last in the bits above them. Groups are numbered
// through the whole matrix, whose rows are whole superblocks.
//
//   Superblock block;                                             whoever stays in one keeps it
//   load_superblock<FORMAT, GROUP>(scales, biases, group, block);
//   float2 scaling = scaling_of<FORMAT, GROUP>(scales, biases, group, block);
//   or: load_scaling<FORMAT, GROUP, COUNT>(scales, biases, group, scaling);     a run's parts
#pragma once
#include "quantized.h"

constant constexpr int SUPERBLOCK = 256;

// What is stored as the biases, by the type of the scales.
template <typename S>
struct BiasOf {
  using type = S;
};

template <>
struct BiasOf<uint> {
  using type = half;
};

template <typename S>
using Bias = typename BiasOf<S>::type;

struct Superblock {
  float2 factors;
  uint words[3];
};

template <int FORMAT>
constexpr bool has_superblocks() {
  return (FORMAT >= Q2_K && FORMAT % 10 == 0) || FORMAT == IQ4_XS;
}

template <int FORMAT>
constexpr bool is_symmetric() {
  return FORMAT == Q4_0 || FORMAT == Q5_0 || FORMAT == Q8_0;
}

template <int FORMAT>
constexpr bool has_bytes() {
  return FORMAT == Q2_K || FORMAT == Q6_K || FORMAT == IQ4_XS;
}

template <int FORMAT>
constexpr bool has_minimums() {
  return FORMAT == Q2_K || FORMAT == Q4_K || FORMAT == Q5_K;
}

// The elements of a row's scales, and of its biases, in their arrays.
template <int FORMAT, int GROUP>
constexpr uint scales_of(uint inputs) {
  if (!has_superblocks<FORMAT>()) {
    return inputs / GROUP;
  }
  return inputs / SUPERBLOCK * (has_bytes<FORMAT>() ? SUPERBLOCK / GROUP / 4 : 3);
}

template <int FORMAT, int GROUP>
constexpr uint biases_of(uint inputs) {
  if (!has_superblocks<FORMAT>()) {
    return inputs / GROUP;
  }
  return inputs / SUPERBLOCK * (has_minimums<FORMAT>() ? 2 : 1);
}

// A stored scale or bias; 8 bits are the exponent of a power of two (E8M0).
template <typename S>
inline float number(S stored) {
  return float(stored);
}

inline float number(uchar stored) {
  return as_type<float>(stored == 0 ? 0x400000u : uint(stored) << 23);
}

inline float six_bits(thread const uint* words, uint i) {
  uint word = min(i / 5, 2u);
  uint bits = word == 0 ? words[0] : word == 1 ? words[1] : words[2];
  uint last = words[0] >> 30 | words[1] >> 30 << 2 | words[2] >> 30 << 4;
  return float(i == 15 ? last : bits >> 6 * (i - 5 * word) & 63);
}

// What all groups of the superblock share that `group` is in.
template <int FORMAT, int GROUP, typename S, typename B>
inline void load_superblock(
    const device S* scales, const device B* biases, size_t group, thread Superblock& block) {
  if (!has_superblocks<FORMAT>()) {
    return;
  }
  size_t number = group / (SUPERBLOCK / GROUP);
  const device half* factors = (const device half*)biases;
  block.factors = has_minimums<FORMAT>()
      ? float2(((const device half2*)factors)[number])
      : float2(factors[number], 0.0f);
  if (!has_bytes<FORMAT>()) {
    for (int i = 0; i < 3; i++) {
      block.words[i] = ((const device uint*)scales)[3 * number + i];
    }
  }
}

template <int FORMAT, int GROUP, typename S, typename B>
inline float2 scaling_of(
    const device S* scales, const device B* biases, size_t group, thread const Superblock& block) {
  if (!has_superblocks<FORMAT>()) {
    float scale = number(scales[group]);
    constexpr float middle = FORMAT == Q8_0 ? 128.0f : FORMAT == Q5_0 ? 16.0f : 8.0f;
    float bias = is_symmetric<FORMAT>() ? scale * -middle : number(biases[group]);
    return float2(scale, is_biased<FORMAT>() ? bias : 0.0f);
  }
  uint place = group % (SUPERBLOCK / GROUP);
  uint whole = has_bytes<FORMAT>() ? ((const device uchar*)scales)[group] : 0;
  if (FORMAT == Q2_K) {
    return block.factors * float2(whole & 15, -float(whole >> 4));
  }
  if (has_minimums<FORMAT>()) {
    return block.factors *
        float2(six_bits(block.words, place), -six_bits(block.words, place + 8));
  }
  float size = FORMAT == Q3_K ? six_bits(block.words, place) - 32.0f : float(char(whole));
  float scale = block.factors.x * size;
  return float2(scale, scale * (FORMAT == Q3_K ? -4.0f : -32.0f));
}

// The scale and bias of each part of a run of COUNT, from `group` on.
template <int FORMAT, int GROUP, int COUNT, typename S, typename B>
inline void load_scaling(
    const device S* scales, const device B* biases, size_t group, thread float2* scaling) {
  Superblock block;
  load_superblock<FORMAT, GROUP>(scales, biases, group, block);
  for (int p = 0; p < parts_of<GROUP, COUNT>(); p++) {
    scaling[p] = scaling_of<FORMAT, GROUP>(scales, biases, group + p, block);
  }
}
