/* The gates of the gated delta rule beside plain loops. */
#include "check.h"

int op_delta_gates(const float *decay, const float *correction, const float *rates,
                   const float *offsets, int rows, int heads, float *g, float *beta);

static void check(int rows, int heads) {
    const size_t size = (size_t)rows * (size_t)heads;
    float *decay = noises(size, 20), *correction = noises(size, 20);
    float *rates = noises((size_t)heads, 3), *offsets = noises((size_t)heads, 2);
    float *g = malloc(size * 4), *beta = malloc(size * 4), *expected = malloc(size * 4);
    op_delta_gates(decay, correction, rates, offsets, rows, heads, g, beta);
    for (size_t i = 0; i < size; i++) {
        const size_t head = i % (size_t)heads;
        expected[i] = (float)(rates[head] * log1p(exp((double)decay[i] + offsets[head])));
    }
    compare("delta_gates, g", g, expected, size, 1e-5f);
    for (size_t i = 0; i < size; i++)
        expected[i] = (float)(1 / (1 + exp(-(double)correction[i])));
    compare("delta_gates, beta", beta, expected, size, 1e-5f);
    void *all[] = {decay, correction, rates, offsets, g, beta, expected};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* The last has more gates than a task takes. */
void check_delta_gates(void) {
    check(1, 1);
    check(3, 5);
    check(2, 16);
    check(100, 47);
}
