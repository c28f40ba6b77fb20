/* Activations of feed-forward layers, and what joins a gate and its up projection. */
#pragma once
#include "simd.h"

/* The same numbers as in activation.py. */
enum { NONE = 0, SILU = 1, GELU = 2, GELU_TANH = 3, SWIGLU_CLAMPED = 4, RELU2 = 5 };

INLINE vf vf_tanh(vf v) {
    return 1.0f - 2.0f / (1.0f + vf_exp(v * 2.0f));
}

/* Abramowitz and Stegun, 7.1.26: within 1.5e-7. */
INLINE vf vf_erf(vf v) {
    vf size = vf_abs(v);
    vf t = 1.0f / vf_fma(vf_set(0.3275911f), size, vf_set(1));
    vf p = vf_set(1.061405429f);
    p = vf_fma(p, t, vf_set(-1.453152027f));
    p = vf_fma(p, t, vf_set(1.421413741f));
    p = vf_fma(p, t, vf_set(-0.284496736f));
    p = vf_fma(p, t, vf_set(0.254829592f));
    vf result = 1.0f - p * t * vf_exp(-size * size);
    return vf_select((vi)(v < 0.0f), -result, result);
}

INLINE vf vf_gelu(vf v) {
    return 0.5f * v * (1.0f + vf_erf(v * 0.70710678f));
}

INLINE vf vf_gelu_tanh(vf v) {
    return 0.5f * v * (1.0f + vf_tanh(0.79788456f * vf_fma(v * v * v, vf_set(0.044715f), v)));
}

/* gpt-oss: gate is cut above, up on both sides, and up gets 1 added. */
INLINE vf vf_swiglu_clamped(vf gate, vf up, float limit) {
    gate = vf_min(vf_set(limit), gate);
    up = vf_max(vf_set(-limit), vf_min(vf_set(limit), up));
    return gate * vf_sigmoid(gate * 1.702f) * (up + 1.0f);
}

/* NaN stays NaN. */
INLINE vf vf_relu2(vf v) {
    vf size = vf_select((vi)(v < 0.0f), vf_set(0), v);
    return size * size;
}

/* Without a gate: all but SWIGLU_CLAMPED. */
INLINE vf activated(vf v, int activation) {
    switch (activation) {
    case GELU: return vf_gelu(v);
    case GELU_TANH: return vf_gelu_tanh(v);
    case RELU2: return vf_relu2(v);
    default: return v * vf_sigmoid(v);
    }
}

INLINE vf gated(vf gate, vf up, int activation, float limit) {
    if (activation == SWIGLU_CLAMPED)
        return vf_swiglu_clamped(gate, up, limit);
    return activated(gate, activation) * up;
}
