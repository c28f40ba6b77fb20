// A weight's rows, dense or quantized: how a lane takes its run of x, and of a row against it.
//
// FORMAT is quantized.h's, or DENSE: rows of plain numbers, given as the scales and biases too.
//
//   float values[length_of<FORMAT>()];
//   load_values<length_of<FORMAT>()>(x + first, values);
//   float sums[parts_of<GROUP, length_of<FORMAT>()>()];
//   prepare<FORMAT, GROUP, length_of<FORMAT>()>(values, sums);      once for all rows
//   y += along<FORMAT, GROUP>(rows, r, inputs, first, values, sums);
#pragma once
#include "quantized.h"
#include "scales.h"
#include "vector.h"

enum { DENSE = 0 };

template <int FORMAT>
constexpr int length_of() {
  return FORMAT == DENSE ? 8 : run_of<FORMAT>();
}

template <typename W, typename S, typename B = Bias<S>>
struct Rows {
  const device W* weight;
  const device S* scales;
  const device B* biases;
};

// The elements of a row's weight in its array.
template <int FORMAT>
constexpr uint stored_of(uint inputs) {
  return FORMAT == DENSE ? inputs : inputs / 32 * bits_of<FORMAT>();
}

// From another row on.
template <int FORMAT, int GROUP, typename W, typename S>
inline Rows<W, S> from_row(Rows<W, S> rows, size_t row, uint inputs) {
  rows.weight += row * stored_of<FORMAT>(inputs);
  if (FORMAT != DENSE) {
    rows.scales += row * scales_of<FORMAT, GROUP>(inputs);
    rows.biases += row * biases_of<FORMAT, GROUP>(inputs);
  }
  return rows;
}

// The run of row r from column `first` on, times x, which has gone through `prepare`.
template <int FORMAT, int GROUP, typename S, typename B>
inline float along(
    Rows<uint, S, B> rows, uint r, uint inputs, uint first, thread const float* x,
    thread const float* sums) {
  constexpr int RUN = run_of<FORMAT>();
  uint words[words_of<FORMAT, RUN>()];
  load_codes<FORMAT, RUN>(rows.weight + r * stored_of<FORMAT>(inputs), first, words);
  float2 scaling[parts_of<GROUP, RUN>()];
  uint group = r * (inputs / GROUP) + first / GROUP;
  load_scaling<FORMAT, GROUP, RUN>(rows.scales, rows.biases, group, scaling);
  return add_run<FORMAT, GROUP, RUN>(words, scaling, x, sums, 0.0f);
}

template <int FORMAT, int GROUP, typename W>
inline float along(
    Rows<W, W, W> rows, uint r, uint inputs, uint first, thread const float* x,
    thread const float*) {
  float values[length_of<DENSE>()];
  load_values<length_of<DENSE>()>(rows.weight + r * inputs + first, values);
  float product = 0;
  for (int i = 0; i < length_of<DENSE>(); i++) {
    product = fma(values[i], x[i], product);
  }
  return product;
}
