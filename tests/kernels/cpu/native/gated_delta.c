/* The gated delta rule beside plain loops. */
#include "check.h"

int op_gated_delta(const float *q, const float *k, const float *v, const float *g,
                   const float *beta, float *state, const int32_t *starts, const int32_t *slots,
                   const int32_t *fresh, int sequences, int key_heads, int heads, int key_dim,
                   int value_dim, int normalise, float scale, float *out);

enum { ROWS = 5, SEQUENCES = 2, SLOTS = 3 };
static const int32_t STARTS[] = {0, 1, 5}, SLOT[] = {2, 0}, FRESH[] = {0, 1};

static double length(const float *x, int count, int normalise) {
    double sum = 1e-6;
    for (int i = 0; i < count; i++)
        sum += (double)x[i] * x[i];
    return normalise ? sqrt(sum) : 1;
}

/* One token of one head; `state` is (key_dim, value_dim). */
static void step(const float *q, const float *k, const float *v, float g, float beta, int key_dim,
                 int value_dim, int normalise, float *state, float *out) {
    const double q_size = length(q, key_dim, normalise), k_size = length(k, key_dim, normalise);
    for (int j = 0; j < value_dim; j++) {
        double known = 0, sum = 0;
        for (int i = 0; i < key_dim; i++)
            known += state[i * value_dim + j] * exp(g) * k[i] / k_size;
        for (int i = 0; i < key_dim; i++) {
            double s = state[i * value_dim + j] * exp(g) + k[i] / k_size * (v[j] - known) * beta;
            state[i * value_dim + j] = (float)s;
            sum += s * q[i] / q_size * 0.5;
        }
        out[j] = (float)sum;
    }
}

static void check(int key_heads, int heads, int key_dim, int value_dim, int normalise) {
    const size_t keys = (size_t)(ROWS * key_heads * key_dim), gates = (size_t)(ROWS * heads);
    const size_t values = gates * (size_t)value_dim, one = (size_t)(key_dim * value_dim);
    const size_t kept = SLOTS * (size_t)heads * one;
    float *q = noises(keys, 1), *k = noises(keys, 0.5f), *v = noises(values, 1);
    float *g = noises(gates, 1), *beta = noises(gates, 1), *state = noises(kept, 1);
    float *last = malloc(kept * 4), *out = malloc(values * 4), *expected = malloc(values * 4);
    memcpy(last, state, kept * 4);
    for (int s = 0; s < SEQUENCES; s++)
        for (int h = 0; h < heads; h++) {
            float *mine = last + (size_t)(SLOT[s] * heads + h) * one;
            if (FRESH[s])
                memset(mine, 0, one * 4);
            for (int row = STARTS[s]; row < STARTS[s + 1]; row++) {
                const int key = (row * key_heads + h / (heads / key_heads)) * key_dim;
                const int gate = row * heads + h;
                step(q + key, k + key, v + gate * value_dim, g[gate], beta[gate], key_dim,
                     value_dim, normalise, mine, expected + gate * value_dim);
            }
        }
    op_gated_delta(q, k, v, g, beta, state, STARTS, SLOT, FRESH, SEQUENCES, key_heads, heads,
                   key_dim, value_dim, normalise, 0.5f, out);
    compare("gated_delta", out, expected, values, 1e-4f);
    compare("gated_delta, state", state, last, kept, 1e-4f);
    void *all[] = {q, k, v, g, beta, state, last, out, expected};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

void check_gated_delta(void) {
    check(1, 1, 1, 1, 0);
    check(1, 2, 7, 5, 1);
    check(2, 4, 32, 64, 1);
    check(2, 2, 33, 100, 0);
    check(1, 3, 16, 131, 1);
}
