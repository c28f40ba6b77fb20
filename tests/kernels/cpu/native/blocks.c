/* GGUF's blocks beside the codes of one layout after the other, in buffers of their exact size. */
#include <stddef.h>

#include "check.h"

int op_blocks(int type, const uint8_t *raw, ptrdiff_t count, uint8_t *codes, uint8_t *scales,
              uint8_t *biases);

static int code_at(const uint8_t *codes, int bits, ptrdiff_t i) {
    int code = 0;
    for (int bit = 0; bit < bits; bit++) {
        const ptrdiff_t at = i * bits + bit;
        code |= (codes[at / 8] >> at % 8 & 1) << bit;
    }
    return code;
}

static uint8_t *random_bytes(size_t count) {
    uint8_t *bytes = malloc(count);
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)bits32();
    return bytes;
}

/* Code i of a block: what ggml's dequantize_row_* reads. */
static int q5_1(const uint8_t *raw, int i) {
    const uint8_t byte = raw[8 + i % 16];
    return (i < 16 ? byte & 15 : byte >> 4) | (raw[4 + i / 8] >> i % 8 & 1) << 4;
}
static int q3_k(const uint8_t *raw, int i) {
    const int low = raw[32 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
    return low | (raw[i % 32] >> i / 32 & 1) << 2;
}
static int q6_k(const uint8_t *raw, int i) {
    const int in = i % 128, byte = raw[i / 128 * 64 + in % 64];
    return (in < 64 ? byte & 15 : byte >> 4) | (raw[128 + i / 128 * 32 + i % 32] >> in / 32 * 2 & 3) << 4;
}

static void check_type(int type, int values, int bytes, int bits, int scales, int biases, int at,
                       int (*code)(const uint8_t *, int), ptrdiff_t count) {
    uint8_t *raw = random_bytes((size_t)(count * bytes));
    uint8_t *codes = malloc((size_t)(count * values / 8 * bits));
    uint8_t *held = malloc((size_t)(count * scales)), *more = malloc((size_t)(count * biases));
    float *found = malloc((size_t)(count * values) * 4), *expected = malloc((size_t)(count * values) * 4);
    if (op_blocks(type, raw, count, codes, held, more))
        exit(1);
    for (ptrdiff_t i = 0; i < count * values; i++) {
        found[i] = (float)code_at(codes, bits, i);
        expected[i] = (float)code(raw + i / values * bytes, (int)(i % values));
    }
    compare("blocks", found, expected, (size_t)(count * values), 0);
    for (ptrdiff_t i = 0; i < count * biases; i++) {
        found[i] = more[i];
        expected[i] = raw[i / biases * bytes + at + i % biases];
    }
    compare("blocks' factors", found, expected, (size_t)(count * biases), 0);
    free(raw), free(codes), free(held), free(more), free(found), free(expected);
}

void check_blocks(void) {
    /* One block, no whole number of those folded together, and more than a task takes. */
    const ptrdiff_t counts[] = {1, 11, 2051};
    for (int i = 0; i < 3; i++) {
        check_type(7, 32, 24, 5, 2, 2, 2, q5_1, counts[i]);
        check_type(11, 256, 110, 3, 12, 2, 108, q3_k, i == 2 ? 257 : counts[i]);
        check_type(14, 256, 210, 6, 16, 2, 208, q6_k, i == 2 ? 257 : counts[i]);
    }
    if (!op_blocks(99, 0, 0, 0, 0, 0))
        exit(1);
}
