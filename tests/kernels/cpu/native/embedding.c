/* Embedding rows beside a walk over the bits, in a checkpoint's order. */
#include "check.h"
#include "matrix.h"

int op_pack(Matrix *matrix);
int op_embedding(const Matrix *matrix, const int32_t *tokens, int rows, float *out);

static uint32_t code_at(const uint8_t *packed, size_t bit, int bits) {
    uint32_t code = 0;
    for (int i = 0; i < bits; i++)
        code |= (uint32_t)(packed[(bit + (size_t)i) / 8] >> (bit + (size_t)i) % 8 & 1) << i;
    return code;
}

static void check_bits(int outputs, int inputs, int bits, int group) {
    const size_t bytes = (size_t)outputs * (size_t)inputs * (size_t)bits / 8;
    const size_t groups = (size_t)outputs * (size_t)(inputs / group);
    uint8_t *packed = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        packed[i] = (uint8_t)bits32();
    float *scales = noises(groups, 1), *biases = noises(groups, 1);
    const int32_t tokens[] = {outputs - 1, 0, -1, outputs + 5, INT32_MIN};
    const int rows[] = {outputs - 1, 0, outputs - 1, outputs - 1, 0};
    float *out = malloc(5 * (size_t)inputs * 4), *expected = malloc(5 * (size_t)inputs * 4);
    Matrix m = {.weight = packed, .scales = scales, .biases = biases, .outputs = outputs,
                .inputs = inputs, .bits = bits, .group = group, .type = F32};
    op_embedding(&m, tokens, 5, out);
    for (int r = 0; r < 5; r++)
        for (int i = 0; i < inputs; i++) {
            const size_t place = (size_t)rows[r] * (size_t)inputs + (size_t)i;
            const float code = (float)code_at(packed, place * (size_t)bits, bits);
            expected[(size_t)r * (size_t)inputs + (size_t)i] =
                code * scales[place / (size_t)group] + biases[place / (size_t)group];
        }
    compare("embedding, quantized", out, expected, 5 * (size_t)inputs, 1e-6f);
    op_pack(&m);
    op_embedding(&m, tokens, 5, out);
    compare("embedding, packed", out, expected, 5 * (size_t)inputs, 1e-6f);
    void *all[] = {packed, scales, biases, out, expected};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Modes whose codes are floats: all of them `value`, under scales of 1, 2 and 4. */
static void check_floats(int bits, int group, int type, uint8_t code, float value) {
    const int outputs = 37, inputs = 96, count = outputs * inputs / group;
    const size_t bytes = (size_t)(outputs * inputs * bits / 8);
    uint8_t *packed = memset(malloc(bytes), code, bytes), *scales = malloc((size_t)count);
    for (int i = 0; i < count; i++)
        scales[i] = (uint8_t)(type == E8M0 ? 127 + i % 3 : 56 + 8 * (i % 3));
    const int32_t tokens[] = {36, 0, 5};
    float *out = malloc(3 * (size_t)inputs * 4), *expected = malloc(3 * (size_t)inputs * 4);
    for (int i = 0; i < 3 * inputs; i++)
        expected[i] = value * (float)(1 << (tokens[i / inputs] * inputs + i % inputs) / group % 3);
    Matrix m = {.weight = packed, .scales = scales, .outputs = outputs, .inputs = inputs,
                .bits = bits, .group = group, .type = type, .form = FLOATS};
    op_embedding(&m, tokens, 3, out);
    compare("embedding, of floats", out, expected, 3 * (size_t)inputs, 0);
    op_pack(&m);
    op_embedding(&m, tokens, 3, out);
    compare("embedding, of floats, packed", out, expected, 3 * (size_t)inputs, 0);
    free(packed), free(scales), free(out), free(expected);
}

/* Codes that are all 9, or 2, under whole numbers whose bytes are all 0x2d: of 6 bits, 45 is the
   first and 11 number 8. */
static void check_superblocks(int form, int bits, int group, float value) {
    const int outputs = 37, inputs = 512, blocks = outputs * inputs / SUPERBLOCK;
    const size_t bytes = (size_t)(outputs * inputs * bits / 8);
    const size_t words = (size_t)(blocks * HELD[form].words * 4);
    uint8_t *codes = memset(malloc(bytes), bits == 4 ? 0x99 : 0xaa, bytes);
    uint8_t *scales = memset(malloc(words), 0x2d, words);
    uint16_t *factors = malloc((size_t)(blocks * HELD[form].factors) * 2);
    for (int i = 0; i < blocks * HELD[form].factors; i++)
        factors[i] = to_f16(0.5f);
    const int32_t tokens[] = {36, 0, 5};
    float *out = malloc(3 * (size_t)inputs * 4), expected[4];
    for (int i = 0; i < 4; i++)
        expected[i] = value;
    Matrix m = {.weight = codes, .scales = scales, .biases = factors, .outputs = outputs,
                .inputs = inputs, .bits = bits, .group = group, .type = F16, .form = form};
    for (int packed = 0; packed < 2; packed++) {
        op_embedding(&m, tokens, 3, out);
        for (int r = 0; r < 3; r++)
            compare("embedding, in superblocks", out + (ptrdiff_t)r * inputs, expected, 4, 0);
        op_pack(&m);
    }
    free(codes), free(scales), free(factors), free(out);
}

static void check_dense(int outputs, int inputs) {
    const size_t size = (size_t)outputs * (size_t)inputs;
    float *values = noises(size, 1), *out = malloc(3 * (size_t)inputs * 4);
    uint16_t *halves = malloc(size * 2);
    for (size_t i = 0; i < size; i++)
        halves[i] = to_f16(values[i]);
    const int32_t tokens[] = {outputs - 1, 0, outputs / 2};
    Matrix m = {.weight = values, .outputs = outputs, .inputs = inputs, .type = F32};
    Matrix half = {.weight = halves, .outputs = outputs, .inputs = inputs, .type = F16};
    for (int i = 0; i < 2; i++) {
        op_embedding(i ? &half : &m, tokens, 3, out);
        for (int r = 0; r < 3; r++)
            compare("embedding, dense", out + (size_t)r * (size_t)inputs,
                    values + (size_t)tokens[r] * (size_t)inputs, (size_t)inputs, i ? 1e-3f : 0);
    }
    float *expected = malloc(size * 4);
    memcpy(expected, values, size * 4);
    op_pack(&m);
    op_embedding(&m, tokens, 3, out);
    for (int r = 0; r < 3; r++)
        compare("embedding, packed", out + (size_t)r * (size_t)inputs,
                expected + (size_t)tokens[r] * (size_t)inputs, (size_t)inputs, 0);
    free(values);
    free(out);
    free(halves);
    free(expected);
}

void check_embedding(void) {
    const int bits[] = {2, 3, 4, 5, 6, 8};
    for (int i = 0; i < 6; i++)
        for (int group = 32; group <= 128; group *= 2)
            check_bits(i % 2 ? 5 : 37, 3 * group, bits[i], group);
    check_floats(4, 32, E8M0, 0x55, 3);
    check_floats(4, 16, E4M3, 0xee, -4);
    check_floats(8, 32, E8M0, 0xbc, -1.5f);
    check_floats(8, 32, E8M0, 0x03, 3.0f / 512);
    check_superblocks(Q2_K, 2, 16, 0.5f * (13 * 2 - 2));
    check_superblocks(Q4_K, 4, 32, 0.5f * (45 * 9 - 11));
    check_superblocks(IQ4_XS, 4, 32, 0.5f * 45 * 13);
    check_dense(5, 1);
    check_dense(35, 67);
}
