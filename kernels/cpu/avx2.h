/* AVX2 with FMA, F16C and BMI2: 8 lanes. */
#pragma once
#include <immintrin.h>

INLINE vf vf_fma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE vf vf_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf vf_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE vi vi_round(vf v) { return (vi)_mm256_cvtps_epi32((__m256)v); }
INLINE uint32_t vi_bits(vi mask) { return (uint32_t)_mm256_movemask_ps((__m256)mask); }
INLINE float vf_sum(vf v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
INLINE float vf_most(vf v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
INLINE vf vf_load16(const uint16_t *p) {
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE void vf_store16(uint16_t *p, vf v) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}

/* maddubs saturates beyond 127 * 127 * 2, so bytes above 127 go as two nibbles. */
INLINE vi dot4(vi sum, vi u, vi s) {
    const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
    const __m256i sixteen = _mm256_set1_epi16(16);
    __m256i lows = _mm256_and_si256((__m256i)u, low);
    __m256i highs = _mm256_and_si256(_mm256_srli_epi16((__m256i)u, 4), low);
    __m256i a = _mm256_madd_epi16(_mm256_maddubs_epi16(lows, (__m256i)s), one);
    __m256i b = _mm256_madd_epi16(_mm256_maddubs_epi16(highs, (__m256i)s), sixteen);
    return sum + (vi)a + (vi)b;
}

/* The same for bytes up to 63. */
#define DOT4_SMALL 1
INLINE vi dot4_small(vi sum, vi u, vi s) {
    __m256i pairs = _mm256_maddubs_epi16((__m256i)u, (__m256i)s);
    return sum + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* 4 words of each of 8 rows that lie `stride` bytes apart -> 4 vectors, one a word. */
INLINE void transpose4(const char *rows, ptrdiff_t stride, vi out[4]) {
    __m256i part[4];
    for (int i = 0; i < 4; i++) {
        const char *row = rows + i * stride;
        part[i] = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)row)),
            _mm_loadu_si128((const __m128i *)(row + 4 * stride)), 1);
    }
    __m256i a = _mm256_unpacklo_epi32(part[0], part[1]), b = _mm256_unpackhi_epi32(part[0], part[1]);
    __m256i c = _mm256_unpacklo_epi32(part[2], part[3]), d = _mm256_unpackhi_epi32(part[2], part[3]);
    out[0] = (vi)_mm256_unpacklo_epi64(a, c);
    out[1] = (vi)_mm256_unpackhi_epi64(a, c);
    out[2] = (vi)_mm256_unpacklo_epi64(b, d);
    out[3] = (vi)_mm256_unpackhi_epi64(b, d);
}

/* 64 values of `bits` bits each, packed from the lowest bit on, to a byte each. */
INLINE void spread64(const uint8_t *packed, int bits, uint8_t *out) {
    uint64_t mask = UINT64_C(0x0101010101010101) * ((1u << bits) - 1);
    for (int i = 0; i < 8; i++) {
        uint64_t word = 0;
        memcpy(&word, packed + i * bits, (size_t)bits);
        word = _pdep_u64(word, mask);
        memcpy(out + i * 8, &word, sizeof word);
    }
}

/* Binary16 in the low half of each lane. */
INLINE vf vf_low16(vi v) {
    __m256i low = _mm256_and_si256((__m256i)v, _mm256_set1_epi32(0xffff));
    return (vf)_mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(low),
                                                _mm256_extracti128_si256(low, 1)));
}

/* table[byte] of every byte, which is below 16. */
INLINE vi lookup16(vi v, const uint8_t *table) {
    __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return (vi)_mm256_shuffle_epi8(t, (__m256i)v);
}
