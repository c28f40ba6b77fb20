/* NEON with dot products (ARMv8.2): 4 lanes. */
#pragma once
#include <arm_neon.h>

INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
INLINE vf vf_max(vf a, vf b) { return vf_select((vi)(a > b), a, b); }
INLINE vf vf_min(vf a, vf b) { return vf_select((vi)(a < b), a, b); }
INLINE vi vi_round(vf v) { return (vi)vcvtnq_s32_f32((float32x4_t)v); }
INLINE uint32_t vi_bits(vi mask) {
    const vi weights = {1, 2, 4, 8};
    return (uint32_t)vaddvq_s32((int32x4_t)(mask & weights));
}
INLINE float vf_sum(vf v) { return vaddvq_f32((float32x4_t)v); }
INLINE float vf_most(vf v) { return vmaxvq_f32((float32x4_t)v); }
INLINE vf vf_load16(const uint16_t *p) {
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
INLINE void vf_store16(uint16_t *p, vf v) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v)));
}

/* sdot takes signed bytes: 128 is taken off the unsigned ones and added again as 128 times s. */
INLINE vi dot4(vi sum, vi u, vi s) {
    int8x16_t less = vreinterpretq_s8_u8(veorq_u8((uint8x16_t)u, vdupq_n_u8(128)));
    int32x4_t part = vdotq_s32((int32x4_t)sum, less, (int8x16_t)s);
    int32x4_t sums = vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(64), (int8x16_t)s);
    return (vi)vaddq_s32(part, vshlq_n_s32(sums, 1));
}

/* The same for bytes up to 127. */
#define DOT4_SMALL 1
INLINE vi dot4_small(vi sum, vi u, vi s) {
    return (vi)vdotq_s32((int32x4_t)sum, (int8x16_t)u, (int8x16_t)s);
}

/* 4 words of each of 4 rows that lie `stride` bytes apart -> 4 vectors, one a word. */
INLINE void transpose4(const char *rows, ptrdiff_t stride, vi out[4]) {
    int32x4_t r0 = vld1q_s32((const int32_t *)rows), r1 = vld1q_s32((const int32_t *)(rows + stride));
    int32x4_t r2 = vld1q_s32((const int32_t *)(rows + 2 * stride));
    int32x4_t r3 = vld1q_s32((const int32_t *)(rows + 3 * stride));
    int64x2_t a = vreinterpretq_s64_s32(vtrn1q_s32(r0, r1)), b = vreinterpretq_s64_s32(vtrn2q_s32(r0, r1));
    int64x2_t c = vreinterpretq_s64_s32(vtrn1q_s32(r2, r3)), d = vreinterpretq_s64_s32(vtrn2q_s32(r2, r3));
    out[0] = (vi)vtrn1q_s64(a, c);
    out[1] = (vi)vtrn1q_s64(b, d);
    out[2] = (vi)vtrn2q_s64(a, c);
    out[3] = (vi)vtrn2q_s64(b, d);
}

/* 64 values of `bits` bits each, packed from the lowest bit on, to a byte each. */
INLINE void spread64(const uint8_t *packed, int bits, uint8_t *out) {
    for (int i = 0; i < 8; i++) {
        uint64_t word = 0;
        memcpy(&word, packed + i * bits, (size_t)bits);
        for (int j = 0; j < 8; j++)
            out[i * 8 + j] = (uint8_t)(word >> (j * bits) & ((1u << bits) - 1));
    }
}

/* Binary16 in the low half of each lane. */
INLINE vf vf_low16(vi v) {
    return (vf)vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32((int32x4_t)v)));
}

/* table[byte] of every byte, which is below 16. */
INLINE vi lookup16(vi v, const uint8_t *table) {
    return (vi)vqtbl1q_u8(vld1q_u8(table), (uint8x16_t)v);
}
