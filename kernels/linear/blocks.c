/* GGUF's blocks taken apart, each type's by the layout of ggml's dequantization (ggml-quants.c): codes
   one after the other, as MLX has them, then scales and biases, or a superblock's whole numbers and
   factors (superblocks.py). NumPy does the same in engine/gguf/blocks.py, at a tenth of the speed. */
#include "export.h"
#include "simd.h"
#include "threads.h"

enum { MOST = 256, TASK = 1 << 16 }; /* values of a block, and of a task */

/* Each of 8 bytes. */
INLINE uint64_t each(uint64_t byte) { return byte * UINT64_C(0x0101010101010101); }

/* The low halves of `count` bytes, a multiple of 8, then the high ones. */
INLINE void nibbles(const uint8_t *raw, int count, uint8_t *codes) {
    for (int i = 0; i < count; i += 8) {
        uint64_t both;
        memcpy(&both, raw + i, 8);
        const uint64_t low = both & each(15), high = both >> 4 & each(15);
        memcpy(codes + i, &low, 8);
        memcpy(codes + count + i, &high, 8);
    }
}

/* 32 bits that lie one after the other, put above the 4 that codes have. */
INLINE void fifth(const uint8_t *raw, uint8_t *codes) {
    for (int i = 0; i < 4; i++) {
        uint64_t eight;
        memcpy(&eight, codes + 8 * i, 8);
        const uint64_t apart = each(raw[i]) & UINT64_C(0x8040201008040201); /* bit j in byte j */
        eight |= ((apart + each(127)) >> 7 & each(1)) << 4;
        memcpy(codes + 8 * i, &eight, 8);
    }
}

/* 2 bits of `count` codes: those of a byte are 32 apart. They are moved up by `above`. */
INLINE void twos(const uint8_t *raw, int count, int above, uint8_t *codes) {
    for (int half = 0; half < count; half += 128, raw += 32)
        for (int part = 0; part < 4; part++)
            for (int i = 0; i < 32; i++)
                codes[half + part * 32 + i] |= (uint8_t)((raw[i] >> 2 * part & 3) << above);
}

/* A bit of each of 256 codes: those of a byte are 32 apart. */
INLINE void ones(const uint8_t *raw, int above, uint8_t *codes) {
    for (int part = 0; part < 8; part++)
        for (int i = 0; i < 32; i++)
            codes[part * 32 + i] |= (uint8_t)((raw[i] >> part & 1) << above);
}

/* 16 numbers of 6 bits in 3 words: 5 in each, the last in the bits above them. */
INLINE void put_sixes(const uint8_t six[16], uint8_t *out) {
    uint32_t words[3];
    for (int w = 0; w < 3; w++) {
        words[w] = (uint32_t)(six[15] >> 2 * w & 3) << 30;
        for (int i = 0; i < 5; i++)
            words[w] |= (uint32_t)six[5 * w + i] << 6 * i;
    }
    memcpy(out, words, sizeof words);
}

/* The 8 scales and 8 minimums of 6 bits each that Q4_K and Q5_K have in 12 bytes. */
INLINE void put_scales_of_k(const uint8_t *raw, uint8_t *out) {
    uint8_t six[16];
    for (int i = 0; i < 4; i++) {
        six[i] = raw[i] & 63;
        six[4 + i] = (uint8_t)((raw[8 + i] & 15) | (raw[i] >> 2 & 48));
        six[8 + i] = raw[4 + i] & 63;
        six[12 + i] = (uint8_t)(raw[8 + i] >> 4 | (raw[4 + i] >> 2 & 48));
    }
    put_sixes(six, out);
}

/* Each takes one block apart, into a byte for each code. */
INLINE void take_q4_0(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    (void)biases;
    memcpy(scales, raw, 2);
    nibbles(raw + 2, 16, codes);
}

INLINE void take_q4_1(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    memcpy(scales, raw, 2);
    memcpy(biases, raw + 2, 2);
    nibbles(raw + 4, 16, codes);
}

INLINE void take_q5_0(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    (void)biases;
    memcpy(scales, raw, 2);
    nibbles(raw + 6, 16, codes);
    fifth(raw + 2, codes);
}

INLINE void take_q5_1(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    memcpy(scales, raw, 2);
    memcpy(biases, raw + 2, 2);
    nibbles(raw + 8, 16, codes);
    fifth(raw + 4, codes);
}

INLINE void take_q8_0(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    (void)biases;
    memcpy(scales, raw, 2);
    for (int i = 0; i < 32; i++)
        codes[i] = raw[2 + i] ^ 128;
}

INLINE void take_q2_k(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    memcpy(scales, raw, 16);
    memcpy(biases, raw + 80, 4);
    memset(codes, 0, MOST);
    twos(raw + 16, MOST, 0, codes);
}

INLINE void take_q3_k(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    uint8_t six[16];
    nibbles(raw + 96, 8, six);
    for (int i = 0; i < 16; i++)
        six[i] |= (uint8_t)((raw[104 + i % 4] >> i / 4 * 2 & 3) << 4);
    put_sixes(six, scales);
    memcpy(biases, raw + 108, 2);
    memset(codes, 0, MOST);
    twos(raw + 32, MOST, 0, codes);
    ones(raw, 2, codes);
}

INLINE void take_q4_k(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    memcpy(biases, raw, 4);
    put_scales_of_k(raw + 4, scales);
    for (int i = 0; i < 4; i++)
        nibbles(raw + 16 + 32 * i, 32, codes + 64 * i);
}

INLINE void take_q5_k(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    memcpy(biases, raw, 4);
    put_scales_of_k(raw + 4, scales);
    for (int i = 0; i < 4; i++)
        nibbles(raw + 48 + 32 * i, 32, codes + 64 * i);
    ones(raw + 16, 4, codes);
}

INLINE void take_q6_k(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    memcpy(scales, raw + 192, 16);
    memcpy(biases, raw + 208, 2);
    nibbles(raw, 64, codes);
    nibbles(raw + 64, 64, codes + 128);
    twos(raw + 128, MOST, 4, codes);
}

INLINE void take_iq4_xs(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    const int high = raw[2] | raw[3] << 8;
    memcpy(biases, raw, 2);
    for (int i = 0; i < 8; i++) {
        scales[i] = (uint8_t)(((raw[4 + i / 2] >> i % 2 * 4 & 15) | (high >> 2 * i & 3) << 4) - 32);
        nibbles(raw + 8 + 16 * i, 16, codes + 32 * i);
    }
}

INLINE void take_mxfp4(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    (void)biases;
    scales[0] = raw[0];
    nibbles(raw + 1, 16, codes);
}

/* Scales have no signs, and the largest stands for 0. */
INLINE void take_nvfp4(const uint8_t *raw, uint8_t *codes, uint8_t *scales, uint8_t *biases) {
    (void)biases;
    for (int i = 0; i < 4; i++) {
        scales[i] = (raw[i] & 127) == 127 ? 0 : raw[i] & 127;
        nibbles(raw + 4 + 8 * i, 8, codes + 16 * i);
    }
}

/* Numbers of `bits` that each fill the lowest bits of `lane`, in pairs; `first` has a 1 below each. */
INLINE uint64_t paired(uint64_t x, int bits, int lane, uint64_t first) {
    const uint64_t low = ((UINT64_C(1) << bits) - 1) * first;
    return (x & low) | (x >> (lane - bits) & low << bits);
}

/* Codes of a byte each, 8 side by side; `out` has room for 8 bytes at the end. */
INLINE void fold(const uint64_t codes[MOST / 8], int bits, uint8_t *out) {
    uint64_t eights[MOST / 8];
    for (int i = 0; i < MOST / 8; i++) {
        const uint64_t twos = paired(codes[i], bits, 8, UINT64_C(0x0001000100010001));
        const uint64_t fours = paired(twos, 2 * bits, 16, UINT64_C(0x0000000100000001));
        eights[i] = bits == 8 ? codes[i] : paired(fours, 4 * bits, 32, 1);
    }
    for (int i = 0; i < MOST / 8; i++)
        memcpy(out + i * bits, &eights[i], 8);
}

typedef struct {
    const uint8_t *raw;
    uint8_t *codes, *scales, *biases;
    ptrdiff_t count;
} Blocks;

typedef void (*Take)(const uint8_t *, uint8_t *, uint8_t *, uint8_t *);

/* Blocks of so many values, bytes, bits of a code, and bytes of scales and of biases. All are constant
   where this is called, so that each type has a loop of its own. Small blocks are folded together: to
   read at once what was just written in pieces takes long. */
INLINE void take_all(const Blocks *b, int task, Take take, int values, int bytes, int bits, int scales,
                     int biases) {
    const ptrdiff_t held = TASK / values, first = task * held, packed = values / 8 * bits;
    const ptrdiff_t end = first + held < b->count ? first + held : b->count;
    uint64_t codes[MOST / 8] ALIGNED = {0};
    for (ptrdiff_t i = first; i < end; i += MOST / values) {
        const ptrdiff_t some = end - i < MOST / values ? end - i : MOST / values;
        uint8_t out[MOST + 8];
        for (ptrdiff_t j = 0; j < some; j++)
            take(b->raw + (i + j) * bytes, (uint8_t *)codes + j * values,
                 b->scales + (i + j) * scales, b->biases + (i + j) * biases);
        fold(codes, bits, out);
        memcpy(b->codes + i * packed, out, (size_t)(some * packed));
    }
}

/* Number in a file, name, and sizes as above; `Blocks` of blocks.py has the same. */
#define TYPES(X)                                                                                       \
    X(2, q4_0, 32, 18, 4, 2, 0)                                                                       \
    X(3, q4_1, 32, 20, 4, 2, 2)                                                                       \
    X(6, q5_0, 32, 22, 5, 2, 0)                                                                       \
    X(7, q5_1, 32, 24, 5, 2, 2)                                                                       \
    X(8, q8_0, 32, 34, 8, 2, 0)                                                                       \
    X(10, q2_k, 256, 84, 2, 16, 4)                                                                    \
    X(11, q3_k, 256, 110, 3, 12, 2)                                                                   \
    X(12, q4_k, 256, 144, 4, 12, 4)                                                                   \
    X(13, q5_k, 256, 176, 5, 12, 4)                                                                   \
    X(14, q6_k, 256, 210, 6, 16, 2)                                                                   \
    X(20, q4_0, 32, 18, 4, 2, 0) /* IQ4_NL */                                                         \
    X(23, iq4_xs, 256, 136, 4, 8, 2)                                                                  \
    X(39, mxfp4, 32, 17, 4, 1, 0)                                                                     \
    X(40, nvfp4, 64, 36, 4, 4, 0)

#define TASK_OF(number, name, values, bytes, bits, scales, biases)                                    \
    static void task_##number(void *context, int task) {                                              \
        take_all(context, task, take_##name, values, bytes, bits, scales, biases);                    \
    }
TYPES(TASK_OF)

/* Takes `count` blocks of a type apart; 0, and 2 where the type is not known here. */
EXPORT int op_blocks(int type, const uint8_t *raw, ptrdiff_t count, uint8_t *codes, uint8_t *scales,
                     uint8_t *biases) {
    Blocks b = {raw, codes, scales, biases, count};
    switch (type) {
#define CASE_OF(number, name, values, ...)                                                             \
    case number:                                                                                       \
        parallel((int)((count + TASK / values - 1) / (TASK / values)), task_##number, &b);             \
        return 0;
        TYPES(CASE_OF)
    default: return 2;
    }
}
