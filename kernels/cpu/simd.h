/* Vectors of LANES floats or ints, in one vocabulary over all instruction sets.

   What GCC's and clang's vector extension says (+ - * / & | >> < ==) is used as it is; a tier adds
   what it cannot say. Products are only joined with sums where vf_fma says so, which is why an
   element's result does not depend on which of two loops computed it. */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__AVX512BW__)
#define LANES 16
#elif defined(__ARM_FEATURE_DOTPROD)
#define LANES 4
#else
#define LANES 8
#endif

#define INLINE static inline __attribute__((always_inline, unused))
#define ALIGNED __attribute__((aligned(64)))

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef float vf_any __attribute__((vector_size(LANES * 4), aligned(1), may_alias));
typedef int32_t vi_any __attribute__((vector_size(LANES * 4), aligned(1), may_alias));

INLINE vf vf_load(const float *p) { return *(const vf_any *)p; }
INLINE void vf_store(float *p, vf v) { *(vf_any *)p = v; }
INLINE vi vi_load(const void *p) { return *(const vi_any *)p; }
INLINE void vi_store(void *p, vi v) { *(vi_any *)p = v; }
INLINE vf vf_set(float x) { return x - (vf){0}; }
INLINE vi vi_set(int32_t x) { return x - (vi){0}; }
INLINE vf vf_bits(vi v) { return (vf)v; }
INLINE vf vf_of(vi v) { return __builtin_convertvector(v, vf); }
INLINE vi vi_shift(vi v, int bits) { return (vi)((vu)v >> bits); }
INLINE vf vf_select(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
INLINE vf vf_abs(vf v) { return (vf)((vi)v & 0x7fffffff); }

/* The first n of LANES; the rest is 0, and nothing beyond is touched. */
INLINE vf vf_load_first(const float *p, int n) {
    float lanes[LANES] ALIGNED = {0};
    memcpy(lanes, p, sizeof(float) * (size_t)n);
    return vf_load(lanes);
}
INLINE void vf_store_first(float *p, vf v, int n) {
    float lanes[LANES] ALIGNED;
    vf_store(lanes, v);
    memcpy(p, lanes, sizeof(float) * (size_t)n);
}

/* The next LANES, or the `left` of them that there are. */
INLINE vf vf_next(const float *p, int left) {
    return left >= LANES ? vf_load(p) : vf_load_first(p, left);
}
INLINE void vf_put(float *p, vf v, int left) {
    if (left >= LANES)
        vf_store(p, v);
    else
        vf_store_first(p, v, left);
}

/* Each tier says: vf_fma(a, b, c) = a * b + c; vf_max, vf_min (b where either is NaN);
   vi_round (to nearest even); vf_sum, vf_most (of all lanes); vf_load16(p): LANES of binary16,
   vf_store16; dot4(sum, u, s): sum + the dot product of a lane's 4 unsigned and 4 signed bytes,
   exact for unsigned bytes up to 255; vi_bits (lane i of a mask as bit i); vf_low16, lookup16,
   transpose4 and spread64. */
#if LANES == 16
#include "avx512.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__BMI2__) && defined(__F16C__)
#include "avx2.h"
#elif LANES == 4
#include "neon.h"
#else
#include "plain.h"
#endif

#ifndef DOT4_SMALL
#define dot4_small dot4
#endif

INLINE vf vf_loadbf(const uint16_t *p) {
    uint32_t wide[LANES] ALIGNED;
    for (int i = 0; i < LANES; i++)
        wide[i] = (uint32_t)p[i] << 16;
    return (vf)vi_load(wide);
}

/* The same vector, in a register: the compiler would rather load it anew for every use. */
INLINE vi vi_kept(vi v) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#elif defined(__AVX2__)
    __asm__("" : "+x"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
    return v;
}

/* LANES unsigned bytes, each in a lane. */
INLINE vi vi_bytes(const uint8_t *p) {
    typedef uint8_t bytes __attribute__((vector_size(LANES)));
    bytes narrow;
    memcpy(&narrow, p, LANES);
    return __builtin_convertvector(narrow, vi);
}

/* The low byte of each lane. */
INLINE void vi_store8(int8_t *p, vi v) {
    typedef int8_t bytes __attribute__((vector_size(LANES)));
    bytes low = __builtin_convertvector(v, bytes);
    memcpy(p, &low, LANES);
}

/* What an array holds; the same numbers as in library.py. */
enum { F32 = 0, F16 = 1, BF16 = 2, E8M0 = 3, E4M3 = 4 };

INLINE vf vf_load_as(const void *p, int64_t i, int type) {
    if (type == F16)
        return vf_load16((const uint16_t *)p + i);
    if (type == BF16)
        return vf_loadbf((const uint16_t *)p + i);
    return vf_load((const float *)p + i);
}

/* e^(x - n ln 2), where n is x / ln 2 rounded: to 2 units in the last place (Cephes, expf). */
INLINE vf vf_exp_part(vf x, vf n) {
    vf r = vf_fma(n, vf_set(-0.693359375f), x);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf p = vf_set(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    return vf_fma(p, r * r, r + 1.0f);
}

/* e^v to 2 units in the last place; 0 below -87.3, infinity above 88.7, NaN of NaN. */
INLINE vf vf_exp(vf v) {
    const vf low = vf_set(-87.33654f), high = vf_set(88.72283f);
    vf x = vf_min(high, vf_max(low, v));
    vf n = vf_of(vi_round(x * 1.44269504f));
    vf p = vf_exp_part(x, n);
    vi half = vi_round(n * 0.5f); /* 2^128 is no float, its root is */
    vi rest = vi_round(n) - half;
    p = p * vf_bits((half + 127) << 23) * vf_bits((rest + 127) << 23);
    p = vf_select((vi)(v < low), vf_set(0), p);
    return vf_select((vi)(v != v), v, p);
}

INLINE vf vf_sigmoid(vf v) { return 1.0f / (1.0f + vf_exp(-v)); }

/* log(1 + e^v), without overflow. */
INLINE float softplus(float v) {
    return (v > 0 ? v : 0) + log1pf(expf(-fabsf(v)));
}

INLINE float half_to_float(uint16_t h) {
    uint16_t lanes[LANES] = {h};
    return vf_load16(lanes)[0];
}
INLINE float bf_to_float(uint16_t h) {
    uint32_t wide = (uint32_t)h << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Codes of 8 bits with 4 of exponent, and NaN at the end of either sign, in the low byte of each lane
   (OCP 8-bit Floating Point, 4). Below 8 a code counts units of the least value. */
INLINE vf vf_e4m3(vi code) {
    const vi size = code & 127, broken = (vi)(size == 127) & 0x7f800000;
    const vf normal = (vf)(((size << 20) + (120 << 23)) | broken);
    const vf value = vf_select((vi)(size < 8), vf_of(size) * 0x1p-9f, normal);
    return (vf)((vi)value | (code & 128) << 24);
}
INLINE float e4m3_to_float(uint8_t code) { return vf_e4m3(vi_set(code))[0]; }

INLINE float load_as(const void *p, int64_t i, int type) {
    if (type == E8M0) { /* 2^(e - 127), and 0 for the smallest of them */
        uint32_t bits = (uint32_t)((const uint8_t *)p)[i] << 23;
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    if (type == E4M3)
        return e4m3_to_float(((const uint8_t *)p)[i]);
    if (type == F16)
        return half_to_float(((const uint16_t *)p)[i]);
    if (type == BF16)
        return bf_to_float(((const uint16_t *)p)[i]);
    return ((const float *)p)[i];
}

/* The next LANES of an array of any float from element `i` on, or the `left` of them that there are. */
INLINE vf vf_next_as(const void *p, int64_t i, int left, int type) {
    if (left >= LANES)
        return vf_load_as(p, i, type);
    vf v = {0};
    for (int lane = 0; lane < left; lane++)
        v[lane] = load_as(p, i + lane, type);
    return v;
}
