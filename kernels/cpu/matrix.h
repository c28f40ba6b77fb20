/* Weights, unpacked panel by panel: a panel is LANES rows of the matrix, and a lane is a row.

   So nothing is ever summed over lanes, and a product's element is computed alike for one row of
   activations and for a thousand. `op_pack` brings a checkpoint's matrix into this order in place:
   word w of all rows of a panel, then word w + 1. Read in rows instead, side by side, memory gives a
   fifth of its bandwidth. The rows after the last whole panel stay as they were. */
#pragma once
#include "simd.h"

/* Panels that are multiplied together, and their rows. */
enum { VECTORS = 2, TILE = VECTORS * LANES };

/* Inputs that are unpacked at a time; a tile of them stays in the first cache. */
enum { BYTES_DEPTH = 512, FLOATS_DEPTH = 128, MAX_GROUPS = BYTES_DEPTH / 16 };

/* As many more bytes where they are the last; groups of all these. */
enum { TAIL = 128, ALL_GROUPS = (BYTES_DEPTH + TAIL) / 16 };

/* Quantized activations share a scale among so many, or among a group of weights if that is less. */
enum { BLOCK = 64 };

/* `exact` where a row's outliers are multiplied apart, in floats: the largest of a block without which
   the square of its largest is less by APART times the mean of these squares over the row. A block has
   one at most, and one in APART blocks has one. */
enum { FINE = 2, APART = 2 };

/* How many vectors ahead memory is asked for: the work on one hides what the next ones take. */
enum { AHEAD = 8192 / (4 * LANES) };

/* Inputs whose codes are packed together, in as many words as a code has bits. */
enum { RUN = 32 };

/* The same fields in the same order as in linear.py. */
typedef struct {
    void *weight; /* (outputs, inputs): values, or 32-bit words of codes */
    void *scales, *biases; /* (outputs, inputs / group), or as the form has them */
    int32_t outputs, inputs;
    int32_t bits;   /* of a code; 0 says that the weight is dense */
    int32_t group;  /* 16, 32, 64 or 128 inputs share a scale */
    int32_t type;   /* of a dense weight, or of scales and biases: F32, F16, BF16, E8M0, E4M3; F16 of
                       a superblock's factors */
    int32_t exact;  /* 1: activations stay in float32; FINE: outliers do */
    int32_t packed; /* rows in panels; the others lie one after the other */
    int32_t paired; /* 1: panels of a gate and of its up projection lie in turns */
    int32_t form;   /* what codes stand for, and how scales and biases are held */
} Matrix;

/* Codes with scales and biases; codes that are floats, and have no biases, nor have those of which the
   middle is 0, and places in IQ4_VALUES. From IQ4_XS on 256 inputs, a superblock, have whole numbers
   in 32-bit words as scales, and factors of 16 bits as biases: kernels/linear/superblocks.py. */
enum { AFFINE, FLOATS, SYMMETRIC, IQ4_NL, IQ4_XS, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, FORMS };
enum { SUPERBLOCK = 256 };
static const struct { int words, factors; } HELD[FORMS] = {
    [IQ4_XS] = {2, 1}, [Q2_K] = {4, 2}, [Q3_K] = {3, 1},
    [Q4_K] = {3, 2},   [Q5_K] = {3, 2}, [Q6_K] = {4, 1},
};

/* Kinds of codes: their bits, or E2M1, that stand for these numbers, which are the values doubled and
   moved up by 12 (OCP Microscaling Formats, 5.3.3), or IQ4's, moved up by 128 (ggml-common.h). */
enum { FP4 = 7, FP4_ZERO = 12, IQ4 = 9, IQ4_ZERO = 128 };
static const uint8_t FP4_VALUES[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
static const uint8_t IQ4_VALUES[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                       129, 141, 153, 166, 181, 197, 217, 241};

INLINE int least(int a, int b) { return a < b ? a : b; }
INLINE int width_of(int type) { return type == F32 ? 4 : type >= E8M0 ? 1 : 2; }
INLINE int kind_of(const Matrix *m) {
    if (m->form == IQ4_NL || m->form == IQ4_XS)
        return IQ4;
    return m->form == FLOATS && m->bits == 4 ? FP4 : m->bits;
}
INLINE int bits_in(int kind) { return kind == FP4 || kind == IQ4 ? 4 : kind; }
/* Whether codes fill their bytes, which sums of two products in 16 bits do not bear. */
INLINE int is_wide(int kind) { return kind == 8 || kind == IQ4; }
INLINE int in_superblocks(const Matrix *m) { return m->form >= IQ4_XS; }
/* E4M3. */
INLINE int is_fp8(const Matrix *m) { return m->form == FLOATS && m->bits == 8; }
/* Whether activations are quantized for it: values of E4M3 are too unlike to be whole numbers. */
INLINE int in_codes(const Matrix *m) { return m->bits && m->exact != 1 && !is_fp8(m); }
INLINE ptrdiff_t row_bytes(const Matrix *m) {
    return m->bits ? (ptrdiff_t)m->inputs * m->bits / 8 : (ptrdiff_t)m->inputs * width_of(m->type);
}

/* The lowest bits of every byte of a word. */
INLINE int32_t of_each_byte(int bits) { return (int32_t)(0x01010101u * ((1u << bits) - 1)); }

/* Codes of a run, packed: byte j of `code_of(.., i)` is input 4 * i + j, for i below 8. A code's low
   4 bits (or 2) come first, two words of codes (or four) in one; then what is left of it. */
INLINE vi bits_of(const vi_any *words, int bits, unsigned i) {
    if (bits == 8)
        return words[i];
    const unsigned low = bits < 4 ? 2 : 4, rest = (unsigned)bits - low;
    const vi word = vi_kept(words[i * low / 8]);
    const vi code = vi_shift(word, i * low % 8) & of_each_byte(low);
    if (!rest)
        return code;
    const vi more = words[low + i * rest / 8];
    const int up = (int)(low - i * rest % 8); /* to the place above the low bits, in the same byte */
    return code | ((up > 0 ? more << up : vi_shift(more, -up)) & of_each_byte(rest) << low);
}
/* What the codes of a kind stand for. */
INLINE vi found(vi codes, int kind) {
    return kind == FP4 ? lookup16(codes, FP4_VALUES) : kind == IQ4 ? lookup16(codes, IQ4_VALUES) : codes;
}
/* A function that calls itself is not inlined by clang, so these are two. */
INLINE vi code_of(const vi_any *words, int kind, unsigned i) {
    return found(bits_of(words, bits_in(kind), i), kind);
}

INLINE void pack_codes(const vi codes[8], int bits, vi_any *words) {
    const int low = bits == 8 ? 8 : bits < 4 ? 2 : 4, rest = bits - low;
    for (int i = 0; i < bits; i++)
        words[i] = vi_set(0);
    for (int i = 0; i < 8; i++) {
        words[i * low / 8] |= (codes[i] & of_each_byte(low)) << i * low % 8;
        if (rest)
            words[low + i * rest / 8] |= (vi_shift(codes[i], low) & of_each_byte(rest))
                                         << i * rest % 8;
    }
}

/* Word 4 * i + j of row r is byte 16 * i + 4 * j of its `bytes`; a missing row's words are 0. */
INLINE void words4(const char *rows, ptrdiff_t stride, int held, int bytes, vi out[4]) {
    char copy[LANES * 16] ALIGNED = {0};
    for (int i = 0; i < held; i++)
        memcpy(copy + 16 * i, rows + i * stride, (size_t)least(bytes, 16));
    transpose4(copy, 16, out);
}

/* Codes of a run of up to LANES rows that lie one after the other, one byte a code. */
INLINE void codes_of_rows(const char *rows, ptrdiff_t stride, int held, int bits, vi codes[8]) {
    uint8_t bytes[LANES * 64] ALIGNED = {0};
    for (int i = 0; i < held; i++) {
        uint8_t run[64] = {0};
        memcpy(run, rows + i * stride, (size_t)(4 * bits));
        spread64(run, bits, bytes + 64 * i);
    }
    transpose4((const char *)bytes, 64, codes);
    transpose4((const char *)bytes + 16, 64, codes + 4);
}

INLINE const vi_any *words_of(const Matrix *m, int row, int start, int bits) {
    return (const vi_any *)((const char *)m->weight + row * ((ptrdiff_t)m->inputs * bits / 8)) +
           start / RUN * bits;
}

INLINE void unpack_panel(const Matrix *m, int row, int start, int depth, int kind, vi *tile) {
    const vi_any *words = words_of(m, row, start, m->bits);
    for (int at = 0; at < depth; at += RUN, words += bits_in(kind))
        for (int i = 0; i < RUN / 4; i++)
            tile[(at / 4 + i) * VECTORS] = code_of(words, kind, i);
}

static inline __attribute__((unused)) void unpack_rows(const Matrix *m, int row, int start, int depth, vi *tile) {
    const ptrdiff_t stride = row_bytes(m);
    const int held = least(LANES, m->outputs - row), kind = kind_of(m);
    for (int at = 0; at < depth; at += RUN) {
        vi codes[8] = {0};
        if (held > 0)
            codes_of_rows((const char *)m->weight + row * stride + (start + at) / 8 * m->bits,
                          stride, held, m->bits, codes);
        for (int i = 0; i < RUN / 4; i++)
            tile[(at / 4 + i) * VECTORS] = found(codes[i], kind);
    }
}

/* The codes of TILE rows from `row` on, inputs `start` to `start + depth`: tile[depth / 4][VECTORS],
   byte j of word i being input start + 4 * i + j. Rows beyond the last are whatever. */
INLINE void unpack_codes(const Matrix *m, int row, int start, int depth, vi *tile) {
    for (int v = 0; v < VECTORS; v++, row += LANES, tile++) {
        if (row + LANES > m->packed) {
            unpack_rows(m, row, start, depth, tile);
            continue;
        }
        switch (kind_of(m)) {
        case 2: unpack_panel(m, row, start, depth, 2, tile); break;
        case 3: unpack_panel(m, row, start, depth, 3, tile); break;
        case 4: unpack_panel(m, row, start, depth, 4, tile); break;
        case 5: unpack_panel(m, row, start, depth, 5, tile); break;
        case 6: unpack_panel(m, row, start, depth, 6, tile); break;
        case FP4: unpack_panel(m, row, start, depth, FP4, tile); break;
        case IQ4: unpack_panel(m, row, start, depth, IQ4, tile); break;
        default: unpack_panel(m, row, start, depth, 8, tile); break;
        }
    }
}

/* Value `i` of those that words of the type hold, each word in one lane. */
INLINE vf value_of(const vi_any *words, int i, int type) {
    const vi word = type == F32 ? words[i] : words[i / 2];
    if (type == F32)
        return (vf)word;
    if (type == BF16)
        return (vf)(i % 2 ? word & (int32_t)0xffff0000 : word << 16);
    return vf_low16(i % 2 ? vi_shift(word, 16) : word);
}

static inline __attribute__((unused)) void values_of_rows(const Matrix *m, int row, int start, int depth, vf *out) {
    const int held = least(LANES, m->outputs - row), width = width_of(m->type), each = 16 / width;
    const char *rows = (const char *)m->weight + row * row_bytes(m) + (ptrdiff_t)start * width;
    for (int at = 0; at < depth; at += each) {
        vi words[4] = {0};
        if (held > 0)
            words4(rows + at * width, row_bytes(m), held, (depth - at) * width, words);
        for (int i = 0; i < least(each, depth - at); i++)
            out[(at + i) * VECTORS] = value_of((const vi_any *)words, i, m->type);
    }
}

INLINE void values_of_panel(const Matrix *m, int row, int start, int depth, int type, vf *out) {
    const vi_any *words = (const vi_any *)((const char *)m->weight + row * row_bytes(m)) +
                          start * width_of(type) / 4;
    const int each = 4 / width_of(type);
    for (int i = 0; i < depth; i += each, words++)
        for (int j = 0; j < each; j++)
            out[(i + j) * VECTORS] = value_of(words, j, type);
}

INLINE void scales_of_panel(const Matrix *m, const void *from, int row, int first, int count,
                            int type, vf *out) {
    const ptrdiff_t start = (ptrdiff_t)row * (m->inputs / m->group) + (ptrdiff_t)first * LANES;
    for (int i = 0; i < count; i++) {
        const ptrdiff_t at = start + (ptrdiff_t)i * LANES;
        if (type == E8M0)
            out[i] = (vf)(vi_bytes((const uint8_t *)from + at) << 23);
        else if (type == E4M3)
            out[i] = vf_e4m3(vi_bytes((const uint8_t *)from + at));
        else
            out[i] = vf_load_as(from, at, type);
    }
}

static inline __attribute__((unused)) void scales_of_rows(const Matrix *m, const void *from,
                                                          int row, int first, int count, vf *out) {
    const int groups = m->inputs / m->group, held = least(LANES, m->outputs - row);
    for (int i = 0; i < count; i++) {
        float lanes[LANES] ALIGNED = {0};
        for (int r = 0; r < held; r++)
            lanes[r] = load_as(from, (ptrdiff_t)(row + r) * groups + first + i, m->type);
        out[i] = vf_load(lanes);
    }
}

static inline void panel_floats(const Matrix *m, const void *from, int row, int first, int count,
                                vf *out) {
    if (row + LANES > m->packed)
        scales_of_rows(m, from, row, first, count, out);
    else if (m->type == F32)
        scales_of_panel(m, from, row, first, count, F32, out);
    else if (m->type == F16)
        scales_of_panel(m, from, row, first, count, F16, out);
    else if (m->type == BF16)
        scales_of_panel(m, from, row, first, count, BF16, out);
    else if (m->type == E4M3)
        scales_of_panel(m, from, row, first, count, E4M3, out);
    else
        scales_of_panel(m, from, row, first, count, E8M0, out);
}

/* Words and factors of a panel's superblock `at`. */
INLINE void superblock_of(const Matrix *m, int row, int at, vi words[4], vf factors[2]) {
    const int each = HELD[m->form].words, both = HELD[m->form].factors;
    const ptrdiff_t blocks = m->inputs / SUPERBLOCK, start = row * blocks + (ptrdiff_t)at * LANES;
    if (row + LANES <= m->packed) {
        for (int i = 0; i < each; i++)
            words[i] = vi_load((const uint32_t *)m->scales + start * each + i * LANES);
        for (int i = 0; i < both; i++)
            factors[i] = vf_load16((const uint16_t *)m->biases + start * both + i * LANES);
        return;
    }
    for (int r = 0; r < least(LANES, m->outputs - row); r++) {
        const ptrdiff_t block = (row + r) * blocks + at;
        for (int i = 0; i < each; i++)
            words[i][r] = ((const int32_t *)m->scales)[block * each + i];
        for (int i = 0; i < both; i++)
            factors[i][r] = load_as(m->biases, block * both + i, F16);
    }
}

/* Number `i` of the 16 with 6 bits in 3 words: 5 in each, the last in the bits above them. */
INLINE vi six_of(const vi *words, int i) {
    if (i < 15)
        return vi_shift(words[i / 5], i % 5 * 6) & 63;
    return vi_shift(words[0], 30) | vi_shift(words[1], 30) << 2 | vi_shift(words[2], 30) << 4;
}
INLINE vi byte_of(const vi *words, int i) { return vi_shift(words[i / 4], i % 4 * 8); }
INLINE vi signed_of(const vi *words, int i) { return words[i / 4] << (24 - i % 4 * 8) >> 24; }

/* Scales and biases of a superblock's groups: factors times whole numbers, exactly. */
INLINE void fuse(const vi *words, const vf *factors, int form, vf *scales, vf *biases) {
    const int zero = form == Q3_K ? 4 : form == Q6_K ? 32 : IQ4_ZERO;
    const int groups = form == Q2_K || form == Q3_K || form == Q6_K ? 16 : 8;
#pragma GCC unroll 16
    for (int i = 0; i < groups; i++) {
        if (form == Q2_K || form == Q4_K || form == Q5_K) {
            const vi byte = byte_of(words, i), least = form == Q2_K ? vi_shift(byte, 4) & 15
                                                                    : six_of(words, 8 + i);
            scales[i] = factors[0] * vf_of(form == Q2_K ? byte & 15 : six_of(words, i));
            biases[i] = -factors[1] * vf_of(least);
        } else {
            scales[i] = factors[0] * vf_of(form == Q3_K ? six_of(words, i) - 32
                                                        : signed_of(words, i));
            biases[i] = scales[i] * -(float)zero;
        }
    }
}

/* Scales and biases of a superblock, `at` of a panel. */
INLINE void superblock_scales(const Matrix *m, int row, int at, vf *scales, vf *biases) {
    vi words[4] = {0};
    vf factors[2] = {0};
    superblock_of(m, row, at, words, factors);
    switch (m->form) {
    case Q2_K: fuse(words, factors, Q2_K, scales, biases); break;
    case Q3_K: fuse(words, factors, Q3_K, scales, biases); break;
    case Q6_K: fuse(words, factors, Q6_K, scales, biases); break;
    case IQ4_XS: fuse(words, factors, IQ4_XS, scales, biases); break;
    default: fuse(words, factors, Q4_K, scales, biases); break;
    }
}

/* Those of groups `first` to `first + count`, which may be a part of a superblock. */
INLINE void fused_scales(const Matrix *m, int row, int first, int count, vf *scales, vf *biases) {
    const int each = SUPERBLOCK / m->group, end = first + count;
    for (int at = first / each * each; at < end; at += each) {
        if (at >= first && at + each <= end) {
            superblock_scales(m, row, at / each, scales + at - first, biases + at - first);
            continue;
        }
        vf all[2][SUPERBLOCK / 16];
        superblock_scales(m, row, at / each, all[0], all[1]);
        for (int i = at < first ? first : at; i < least(end, at + each); i++) {
            scales[i - first] = all[0][i - at];
            biases[i - first] = all[1][i - at];
        }
    }
}

/* The code that stands for 0 where there are no biases. */
INLINE int zero_of(const Matrix *m) {
    if (m->form == FLOATS)
        return m->bits == 4 ? FP4_ZERO : 0;
    return m->form == IQ4_NL ? IQ4_ZERO : 1 << (m->bits - 1);
}

/* Scales and biases of a panel's groups `first` to `first + count`. */
static inline void panel_scales(const Matrix *m, int row, int first, int count, vf *scales,
                                vf *biases) {
    if (in_superblocks(m)) {
        fused_scales(m, row, first, count, scales, biases);
        return;
    }
    panel_floats(m, m->scales, row, first, count, scales);
    if (m->biases) {
        panel_floats(m, m->biases, row, first, count, biases);
        return;
    }
    const float zero = -(float)zero_of(m), half = kind_of(m) == FP4 ? 0.5f : 1;
    for (int i = 0; i < count; i++) {
        scales[i] = scales[i] * half;
        biases[i] = zero ? scales[i] * zero : vf_set(0);
    }
}

/* The same of a tile, for the groups that `start` to `start + depth` touch: [groups][VECTORS]. */
INLINE void unpack_scales(const Matrix *m, int row, int start, int depth, vf *scales, vf *biases) {
    const int first = start / m->group, count = (start + depth - 1) / m->group - first + 1;
    for (int v = 0; v < VECTORS; v++) {
        vf panel[2][ALL_GROUPS];
        panel_scales(m, row + v * LANES, first, count, panel[0], panel[1]);
        for (int i = 0; i < count; i++) {
            scales[i * VECTORS + v] = panel[0][i];
            biases[i * VECTORS + v] = panel[1][i];
        }
    }
}

/* `fp8` is a constant where this is called, so that the loop holds one kind of code. */
INLINE void unpack_quantized(const Matrix *m, int row, int start, int depth, int fp8, vf *out) {
    vi codes[FLOATS_DEPTH / 4 * VECTORS];
    vf scales[MAX_GROUPS * VECTORS], biases[MAX_GROUPS * VECTORS];
    unpack_codes(m, row, start, depth, codes);
    unpack_scales(m, row, start, depth, scales, biases);
    for (int i = 0; i < depth; i++) {
        const int group = (start + i) / m->group - start / m->group;
        for (int v = 0; v < VECTORS; v++) {
            const vi code = vi_shift(codes[i / 4 * VECTORS + v], i % 4 * 8) & 255;
            const vf scale = scales[group * VECTORS + v];
            out[i * VECTORS + v] = fp8 ? vf_e4m3(code) * scale
                                       : vf_fma(vf_of(code), scale, biases[group * VECTORS + v]);
        }
    }
}

/* The matrix itself in floats, inputs `start` to `start + depth`: out[depth][VECTORS]. */
INLINE void unpack_values(const Matrix *m, int row, int start, int depth, vf *out) {
    if (m->bits) {
        if (is_fp8(m))
            unpack_quantized(m, row, start, depth, 1, out);
        else
            unpack_quantized(m, row, start, depth, 0, out);
        return;
    }
    for (int v = 0; v < VECTORS; v++, row += LANES, out++) {
        if (row + LANES > m->packed)
            values_of_rows(m, row, start, depth, out);
        else if (m->type == F32)
            values_of_panel(m, row, start, depth, F32, out);
        else if (m->type == F16)
            values_of_panel(m, row, start, depth, F16, out);
        else
            values_of_panel(m, row, start, depth, BF16, out);
    }
}
