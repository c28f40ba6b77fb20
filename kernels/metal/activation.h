// What joins a gate and its up projection; the numbers are activation.py's.
#pragma once

enum { SILU = 1, GELU = 2, GELU_TANH = 3, SWIGLU_CLAMPED = 4 };

inline float sigmoid(float x) {
  return 1.0f / (1.0f + precise::exp(-x));
}

// Abramowitz and Stegun, 7.1.26: within 1.5e-7.
inline float error_function(float x) {
  float size = abs(x);
  float t = 1.0f / fma(0.3275911f, size, 1.0f);
  float p = fma(1.061405429f, t, -1.453152027f);
  p = fma(p, t, 1.421413741f);
  p = fma(p, t, -0.284496736f);
  p = fma(p, t, 0.254829592f);
  return copysign(1.0f - p * t * precise::exp(-size * size), x);
}

template <int ACTIVATION>
inline float activated(float gate, float up, float limit) {
  if (ACTIVATION == GELU) {
    return 0.5f * gate * (1.0f + error_function(0.70710678f * gate)) * up;
  }
  if (ACTIVATION == GELU_TANH) {
    float inner = 0.79788456f * fma(0.044715f * gate * gate, gate, gate);
    return gate * sigmoid(2.0f * inner) * up;
  }
  if (ACTIVATION == SWIGLU_CLAMPED) {
    gate = gate > limit ? limit : gate;
    up = up > limit ? limit : up < -limit ? -limit : up;
    return gate * sigmoid(1.702f * gate) * (up + 1.0f);
  }
  return gate * sigmoid(gate) * up;
}
