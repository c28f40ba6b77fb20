// Quantized rows: how a lane takes a run of codes, sums it against x, or turns it to values.
//
// A row is one stream of bits, low bits first, whatever the width: code i lies at bit i * BITS. So
// 32 codes are BITS words, a row of a multiple of 32 codes begins at a multiple of 4 * BITS bytes,
// and a run that begins at a multiple of its own length needs no shift to be read.
// FORMAT is the number of bits of affine codes (2, 3, 4, 5, 6, 8), or one of those below. Of a
// group, affine values are scale * code + bias, as are GGUF's but for IQ4, whose are scale *
// iq4(code); MXFP4's are scale * e2m1(code). scales.h finds a group's scale and bias.
//
//   uint words[words_of<FORMAT, COUNT>()];
//   load_codes<FORMAT, COUNT>(row, first, words);       first: a multiple of COUNT
//   float sums[parts_of<GROUP, COUNT>()];               a run of COUNT may be of several groups
//   prepare<FORMAT, GROUP, COUNT>(x, sums);             once for all rows; x is float[COUNT]
//   y = add_run<FORMAT, GROUP, COUNT>(words, scaling, x, sums, y);       see scales.h
//   or: float value = value_at<FORMAT>(words, i, scale, bias);
#pragma once

enum {
  Q2_K = 20,
  Q3_K = 30,
  Q4_K = 40,
  MXFP4 = 41,
  IQ4_NL = 42,
  IQ4_XS = 43,
  Q4_0 = 44,
  Q5_K = 50,
  Q5_0 = 54,
  Q6_K = 60,
  Q8_0 = 84,
};

template <int FORMAT>
constexpr int bits_of() {
  return FORMAT < 10 ? FORMAT : FORMAT / 10;
}

template <int FORMAT>
constexpr bool is_iq4() {
  return FORMAT == IQ4_NL || FORMAT == IQ4_XS;
}

// Whether values are codes times a scale and something more.
template <int FORMAT>
constexpr bool is_biased() {
  return FORMAT != MXFP4 && !is_iq4<FORMAT>();
}

// The parts of a run that have a scale each.
template <int GROUP, int COUNT>
constexpr int parts_of() {
  return GROUP < COUNT ? COUNT / GROUP : 1;
}

// A run's length for a lane that streams rows: 8 to 20 bytes.
template <int FORMAT>
constexpr int run_of() {
  return bits_of<FORMAT>() % 2 == 0 && FORMAT != 2 ? 16 : 32;
}

template <int FORMAT, int COUNT>
constexpr int words_of() {
  return (COUNT * bits_of<FORMAT>() + 31) / 32;
}

// The widest load, in bytes: what divides the run, and where rows may begin.
template <int FORMAT, int COUNT>
constexpr int unit_of() {
  constexpr int both = COUNT * bits_of<FORMAT>() / 8 | 4 * bits_of<FORMAT>() | 16;
  return both & -both;
}

template <int BYTES, int N>
inline void load_vectors(const device vec<uint, N>* from, thread uint* words) {
  for (int i = 0; i < BYTES / (4 * N); i++) {
    vec<uint, N> part = from[i];
    for (int j = 0; j < N; j++) {
      words[N * i + j] = part[j];
    }
  }
}

template <int BYTES, typename U>
inline void load_pieces(const device U* from, thread uint* words) {
  for (int i = 0; i < BYTES / int(sizeof(U)); i++) {
    int bit = 8 * int(sizeof(U)) * i;
    uint piece = uint(from[i]) << bit % 32;
    words[bit / 32] = bit % 32 == 0 ? piece : words[bit / 32] | piece;
  }
}

// COUNT codes, a multiple of 8 of them, from code `first` of a row.
template <int FORMAT, int COUNT>
inline void load_codes(const device uint* row, uint first, thread uint* words) {
  constexpr int bytes = COUNT * bits_of<FORMAT>() / 8;
  constexpr int unit = unit_of<FORMAT, COUNT>();
  const device uchar* start = (const device uchar*)row + first / 8 * bits_of<FORMAT>();
  if (unit == 16) {
    load_vectors<bytes, 4>((const device uint4*)start, words);
  } else if (unit == 8) {
    load_vectors<bytes, 2>((const device uint2*)start, words);
  } else if (unit == 4) {
    load_pieces<bytes>((const device uint*)start, words);
  } else if (unit == 2) {
    load_pieces<bytes>((const device ushort*)start, words);
  } else {
    load_pieces<bytes>(start, words);
  }
}

// Whether code i reaches into a second word; i is known to the compiler wherever this is asked.
template <int FORMAT>
constexpr bool is_split(int i) {
  return i * bits_of<FORMAT>() % 32 + bits_of<FORMAT>() > 32;
}

template <int FORMAT>
inline uint code_at(thread const uint* words, int i) {
  constexpr uint mask = (1u << bits_of<FORMAT>()) - 1;
  int bit = i * bits_of<FORMAT>();
  uint code = words[bit / 32] >> bit % 32;
  if (is_split<FORMAT>(i)) {
    code |= words[bit / 32 + 1] << (32 - bit % 32);
  }
  return code & mask;
}

// An e2m1 code as 2^-14 of its value: its three low bits are a half's lowest exponents, and
// its subnormals are the half's.
inline float e2m1(uint code) {
  return float(as_type<half>(ushort((code & 7) << 9 | (code & 8) << 12)));
}

// The whole number that an IQ4 code stands for, of -127 to 113 and ever further apart: a polynomial
// passes each within 0.47. A table would be a load for every code, sixteen for 8 bytes of them.
inline float iq4(float code) {
  float bend = fma(fma(code, 0.0013f, 0.042f), code, -1.51f);
  return rint(fma(fma(bend, code, 24.8f), code, -127.15f));
}

template <int FORMAT>
inline float value_at(thread const uint* words, int i, float scale, float bias) {
  uint code = code_at<FORMAT>(words, i);
  if (is_iq4<FORMAT>()) {
    return scale * iq4(float(code));
  }
  return FORMAT == MXFP4 ? scale * (16384.0f * e2m1(code)) : fma(scale, float(code), bias);
}

// Whether halves can be made of the codes two at a time: their bits divide a half's.
template <int FORMAT>
constexpr bool is_paired() {
  return 16 % bits_of<FORMAT>() == 0;
}

// Code i of a word's low half and of its high half (i * BITS < 16), of MXFP4 as `e2m1` has them.
// Bits put beneath the exponent of 2^(10 - place) are a code added to that number: masks and a
// difference, where shifts and conversions to float take four times as long each.
template <int FORMAT>
inline half2 pair_at(uint word, int i) {
  constexpr uint both = 0x00010001;
  int bit = i * bits_of<FORMAT>();
  if (FORMAT == MXFP4) {
    uint size = bit < 12 ? word << (9 - bit) : word >> 3;
    uint sign = word << (12 - bit);
    return as_type<half2>((size & (0x0e00 * both)) | (sign & (0x8000 * both)));
  }
  uint place = bit % 8;
  uint mask = ((1u << bits_of<FORMAT>()) - 1) << place;
  uint codes = (bit < 8 ? word : word >> 8) & (mask * both);
  return as_type<half2>(codes | ((25 - place) << 10) * both) - half2(half(1024 >> place));
}

// Makes x ready for add_run, which leaves codes that have no pairs where they lie in their words.
// sums: those of x by parts, which the parts' biases are multiplied by.
template <int FORMAT, int GROUP, int COUNT>
inline void prepare(thread float* x, thread float* sums) {
  constexpr int part = COUNT / parts_of<GROUP, COUNT>();
  for (int i = 0; i < COUNT; i++) {
    sums[i / part] = i % part == 0 ? x[i] : sums[i / part] + x[i];
    if (!is_paired<FORMAT>() && !is_split<FORMAT>(i)) {
      x[i] *= 1.0f / float(1u << i * bits_of<FORMAT>() % 32);
    }
  }
}

// The sum of code times x, which has gone through `prepare`, from code `first` of the words on.
template <int FORMAT, int COUNT>
inline float dot_codes(thread const uint* words, thread const float* x, int first) {
  constexpr int half_word = 16 / bits_of<FORMAT>();
  constexpr uint mask = (1u << bits_of<FORMAT>()) - 1;
  float sum = 0;
  if (is_paired<FORMAT>()) {
    static_assert(!is_paired<FORMAT>() || COUNT % (2 * half_word) == 0, "whole words");
    for (int i = first / 2; i < (first + COUNT) / 2; i++) {
      int low = i / half_word * 2 * half_word + i % half_word;
      half2 pair = pair_at<FORMAT>(words[i / half_word], i % half_word);
      float2 codes = float2(pair);
      codes = is_iq4<FORMAT>() ? float2(iq4(codes.x), iq4(codes.y)) : codes;
      sum = fma(codes.x, x[low], sum);
      sum = fma(codes.y, x[low + half_word], sum);
    }
    return FORMAT == MXFP4 ? 16384.0f * sum : sum;
  }
  for (int i = first; i < first + COUNT; i++) {
    int bit = i * bits_of<FORMAT>();
    uint in_place = words[bit / 32] & (mask << bit % 32);
    uint code = is_split<FORMAT>(i) ? code_at<FORMAT>(words, i) : in_place;
    sum = fma(float(code), x[i], sum);
  }
  return sum;
}

// y, and a run times x; scaling: the scale and bias of each part.
template <int FORMAT, int GROUP, int COUNT>
inline float add_run(
    thread const uint* words, thread const float2* scaling, thread const float* x,
    thread const float* sums, float y) {
  constexpr int PART = COUNT / parts_of<GROUP, COUNT>();
  for (int p = 0; p < COUNT / PART; p++) {
    y = fma(scaling[p].x, dot_codes<FORMAT, PART>(words, x, p * PART), y);
    y = is_biased<FORMAT>() ? fma(scaling[p].y, sums[p], y) : y;
  }
  return y;
}
