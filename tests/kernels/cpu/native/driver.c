/* Runs every C kernel on many shapes beside plain loops: under sanitizers, under an emulator.

   driver [THREADS]: exit code 0 and one line a kernel, or 1 and the first difference. */
#include "check.h"
#include "threads.h"

#define CASES(X)                                                                                    \
    X(activation) X(attention) X(blocks) X(conv1d) X(delta_gates) X(edit) X(embedding)              \
    X(encoder_attention) X(gated_delta) X(gated_norm) X(head_linear) X(layer_norm) X(linear)       \
    X(logprobs) X(moe)                                                                              \
    X(program) X(rms_norm) X(route) X(rows) X(sample) X(sigmoid_gate) X(ssm_scan) X(threads)
#define DECLARE(name) void check_##name(void);
CASES(DECLARE)

static uint64_t state = 88172645463325252u;

uint32_t bits32(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

float noise(void) {
    return (float)(int32_t)bits32() * 0x1p-31f;
}

float *noises(size_t count, float scale) {
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = noise() * scale;
    return values;
}

uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* For normal numbers alone, which is what the cases hold. */
uint16_t to_f16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t size = bits & 0x7fffffff;
    if (size < 0x38800000)
        return (uint16_t)(bits >> 16 & 0x8000);
    return (uint16_t)((bits >> 16 & 0x8000) | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
}

static const float *sorting;

static int by_rank(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sorting[x] != sorting[y])
        return sorting[x] > sorting[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

int32_t *ranked(const float *logits, int count) {
    int32_t *order = malloc((size_t)count * 4);
    for (int i = 0; i < count; i++)
        order[i] = i;
    sorting = logits;
    qsort(order, (size_t)count, 4, by_rank);
    return order;
}

void compare(const char *name, const float *found, const float *expected, size_t count,
             float bound) {
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(found[i] - expected[i]) <= bound * (1 + fabsf(expected[i])))) {
            printf("%s: element %zu is %g, expected %g\n", name, i, found[i], expected[i]);
            exit(1);
        }
}

int main(int argc, char **argv) {
    pool_resize(argc > 1 ? atoi(argv[1]) : 2);
#define RUN(name)      \
    check_##name();    \
    printf(#name "\n");
    CASES(RUN)
    return 0;
}
