// A weight's rows, dense or quantized: how a lane takes its run of x, and of a row against it.
//
// FORMAT is quantized.h's, or DENSE: rows of plain numbers, given as the scales and biases too.
//
//   float values[length_of<FORMAT>()];
//   load_values<length_of<FORMAT>()>(x + first, values);
//   float sum = prepare<FORMAT, length_of<FORMAT>()>(values);      once for all rows
//   y += along<FORMAT, GROUP>(rows, r, inputs, first, values, sum);
#pragma once
#include "quantized.h"
#include "vector.h"

enum { DENSE = 0 };

template <int FORMAT>
constexpr int length_of() {
  return FORMAT == DENSE ? 8 : run_of<FORMAT>();
}

template <typename W, typename S>
struct Rows {
  const device W* weight;
  const device S* scales;
  const device S* biases;
};

// The elements of a row's weight, and of its scales, in their arrays.
template <int FORMAT>
constexpr uint stored_of(uint inputs) {
  return FORMAT == DENSE ? inputs : inputs / 32 * bits_of<FORMAT>();
}

template <int FORMAT, int GROUP>
constexpr uint groups_of(uint inputs) {
  return FORMAT == DENSE ? 0 : inputs / GROUP;
}

// From another row on.
template <int FORMAT, int GROUP, typename W, typename S>
inline Rows<W, S> from_row(Rows<W, S> rows, size_t row, uint inputs) {
  rows.weight += row * stored_of<FORMAT>(inputs);
  rows.scales += row * groups_of<FORMAT, GROUP>(inputs);
  rows.biases += row * groups_of<FORMAT, GROUP>(inputs);
  return rows;
}

// The run of row r from column `first` on, times x, which has gone through `prepare`.
template <int FORMAT, int GROUP, typename S>
inline float along(
    Rows<uint, S> rows, uint r, uint inputs, uint first, thread const float* x, float sum) {
  uint words[words_of<FORMAT, run_of<FORMAT>()>()];
  load_codes<FORMAT, run_of<FORMAT>()>(rows.weight + r * stored_of<FORMAT>(inputs), first, words);
  uint group = r * (inputs / GROUP) + first / GROUP;
  float product = number(rows.scales[group]) * dot_codes<FORMAT, run_of<FORMAT>()>(words, x);
  return FORMAT == MXFP4 ? product : fma(number(rows.biases[group]), sum, product);
}

template <int FORMAT, int GROUP, typename W>
inline float along(
    Rows<W, W> rows, uint r, uint inputs, uint first, thread const float* x, float) {
  float values[length_of<DENSE>()];
  load_values<length_of<DENSE>()>(rows.weight + r * inputs + first, values);
  float product = 0;
  for (int i = 0; i < length_of<DENSE>(); i++) {
    product = fma(values[i], x[i], product);
  }
  return product;
}
