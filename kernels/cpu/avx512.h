/* AVX-512 with VNNI and VBMI: 16 lanes. */
#pragma once
#include <immintrin.h>

INLINE vf vf_fma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE vf vf_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf vf_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE vi vi_round(vf v) { return (vi)_mm512_cvtps_epi32((__m512)v); }
INLINE uint32_t vi_bits(vi mask) { return _mm512_movepi32_mask((__m512i)mask); }
INLINE float vf_sum(vf v) { return _mm512_reduce_add_ps((__m512)v); }
INLINE float vf_most(vf v) { return _mm512_reduce_max_ps((__m512)v); }
INLINE vf vf_load16(const uint16_t *p) {
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE void vf_store16(uint16_t *p, vf v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}

INLINE vi dot4(vi sum, vi u, vi s) {
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)u, (__m512i)s);
}

/* 4 words of each of 16 rows that lie `stride` bytes apart -> 4 vectors, one a word. */
INLINE void transpose4(const char *rows, ptrdiff_t stride, vi out[4]) {
    __m512i part[4];
    for (int i = 0; i < 4; i++) {
        const char *row = rows + i * stride;
        __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)row));
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(row + 4 * stride)), 1);
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(row + 8 * stride)), 2);
        part[i] = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(row + 12 * stride)), 3);
    }
    __m512i a = _mm512_unpacklo_epi32(part[0], part[1]), b = _mm512_unpackhi_epi32(part[0], part[1]);
    __m512i c = _mm512_unpacklo_epi32(part[2], part[3]), d = _mm512_unpackhi_epi32(part[2], part[3]);
    out[0] = (vi)_mm512_unpacklo_epi64(a, c);
    out[1] = (vi)_mm512_unpackhi_epi64(a, c);
    out[2] = (vi)_mm512_unpacklo_epi64(b, d);
    out[3] = (vi)_mm512_unpackhi_epi64(b, d);
}

/* 64 values of `bits` bits each, packed from the lowest bit on, to a byte each. */
INLINE void spread64(const uint8_t *packed, int bits, uint8_t *out) {
    uint8_t index[64] ALIGNED;
    for (int i = 0; i < 64; i++)
        index[i] = (uint8_t)(i / 8 * bits + i % 8);
    uint64_t shifts = 0;
    for (int i = 0; i < 8; i++)
        shifts |= (uint64_t)(i * bits) << (8 * i);
    __mmask64 held = bits == 8 ? ~UINT64_C(0) : (UINT64_C(1) << (8 * bits)) - 1;
    __m512i v = _mm512_maskz_loadu_epi8(held, packed);
    v = _mm512_permutexvar_epi8(_mm512_load_si512(index), v);
    v = _mm512_multishift_epi64_epi8(_mm512_set1_epi64((int64_t)shifts), v);
    _mm512_storeu_si512(out, _mm512_and_si512(v, _mm512_set1_epi8((char)((1 << bits) - 1))));
}

/* Binary16 in the low half of each lane. */
INLINE vf vf_low16(vi v) {
    return (vf)_mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)v));
}

/* table[byte] of every byte, which is below 16. */
INLINE vi lookup16(vi v, const uint8_t *table) {
    __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    return (vi)_mm512_shuffle_epi8(t, (__m512i)v);
}
