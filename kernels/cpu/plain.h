/* Any machine: 8 lanes in plain C, which the compiler makes of what it has. */
#pragma once
#include <math.h>

INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
INLINE vf vf_max(vf a, vf b) { return vf_select((vi)(a > b), a, b); }
INLINE vf vf_min(vf a, vf b) { return vf_select((vi)(a < b), a, b); }
/* Adding 1.5 * 2^23 leaves no bits for a fraction: nearest even, for |v| < 2^22. */
INLINE vi vi_round(vf v) {
    vf shifted = v + 12582912.0f;
    return (vi)shifted - 0x4b400000;
}
INLINE uint32_t vi_bits(vi mask) {
    uint32_t bits = 0;
    for (int i = 0; i < LANES; i++)
        bits |= (uint32_t)(mask[i] & 1) << i;
    return bits;
}
INLINE float vf_sum(vf v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
INLINE float vf_most(vf v) {
    float most = v[0];
    for (int i = 1; i < LANES; i++)
        most = v[i] > most ? v[i] : most;
    return most;
}
/* Binary16: subnormals come out right because the exponent is moved by a product, not by a sum. */
INLINE vf vf_load16(const uint16_t *p) {
    uint32_t wide[LANES] ALIGNED;
    for (int i = 0; i < LANES; i++)
        wide[i] = p[i];
    vi v = vi_load(wide);
    vf size = (vf)((v & 0x7fff) << 13) * 5.192296858534828e+33f; /* 2^112 */
    vf special = (vf)((vi)size | 0x7f800000);
    size = vf_select((vi)((v & 0x7c00) == 0x7c00), special, size);
    return (vf)((vi)size | (v & 0x8000) << 16);
}
INLINE void vf_store16(uint16_t *p, vf v) {
    vi sign = ((vi)v & (int32_t)0x80000000);
    vi size = (vi)v & 0x7fffffff;
    vi normal = (size - (112 << 23) + 0xfff + (vi_shift(size, 13) & 1));
    vi small = (vi)((vf)size + 0.5f) - 0x3f000000; /* 0.5 has its last bit at 2^-24 */
    vi kept = (vi)vf_select((vi)(size < (113 << 23)), (vf)small, (vf)vi_shift(normal, 13));
    kept = (vi)vf_select((vi)(size >= 0x477ff000), (vf)vi_set(0x7c00), (vf)kept);
    kept = (vi)vf_select((vi)(size > 0x7f800000), (vf)vi_set(0x7e00), (vf)kept);
    kept = kept | vi_shift(sign, 16);
    for (int i = 0; i < LANES; i++)
        p[i] = (uint16_t)kept[i];
}

INLINE vi dot4(vi sum, vi u, vi s) {
    uint8_t a[LANES * 4];
    int8_t b[LANES * 4];
    memcpy(a, &u, sizeof a);
    memcpy(b, &s, sizeof b);
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < 4; j++)
            sum[i] += a[4 * i + j] * b[4 * i + j];
    return sum;
}

/* 4 words of each of 8 rows that lie `stride` bytes apart -> 4 vectors, one a word. */
INLINE void transpose4(const char *rows, ptrdiff_t stride, vi out[4]) {
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < 4; j++) {
            int32_t word;
            memcpy(&word, rows + i * stride + 4 * j, sizeof word);
            out[j][i] = word;
        }
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
    uint16_t low[LANES];
    for (int i = 0; i < LANES; i++)
        low[i] = (uint16_t)v[i];
    return vf_load16(low);
}

/* table[byte] of every byte, which is below 16. */
INLINE vi lookup16(vi v, const uint8_t *table) {
    uint8_t bytes[LANES * 4];
    memcpy(bytes, &v, sizeof bytes);
    for (int i = 0; i < LANES * 4; i++)
        bytes[i] = table[bytes[i]];
    return vi_load(bytes);
}
