/* The selective scan beside plain loops. */
#include "check.h"

int op_ssm_scan(const float *x, const float *b, const float *c, const float *dt,
                const float *dt_bias, const float *a, const float *d, float *state,
                const int32_t *starts, const int32_t *slots, const int32_t *fresh, int sequences,
                int groups, int heads, int head_dim, int state_dim, float least, float most,
                float *out);

/* The second sequence is longer than the tokens that are taken at once; the third has none. */
enum { ROWS = 22, SEQUENCES = 4, SLOTS = 5 };
static const int32_t STARTS[] = {0, 1, 20, 20, 22}, SLOT[] = {2, 0, 4, 1}, FRESH[] = {0, 1, 1, 0};
static const float LEAST = 0.1f, MOST = 1.5f;

/* One token of one head; `state` is (head_dim, state_dim). */
static void token(const float *x, const float *b, const float *c, double dt, double a, double d,
                  int head_dim, int state_dim, float *state, float *out) {
    const double step = fmin(fmax(log1p(exp(dt)), LEAST), MOST);
    for (int p = 0; p < head_dim; p++) {
        double sum = d * x[p];
        for (int n = 0; n < state_dim; n++) {
            const double s = state[p * state_dim + n] * exp(step * a) + step * x[p] * b[n];
            state[p * state_dim + n] = (float)s;
            sum += s * c[n];
        }
        out[p] = (float)sum;
    }
}

static void check(int groups, int heads, int head_dim, int state_dim) {
    const size_t gates = (size_t)(ROWS * heads), values = gates * (size_t)head_dim;
    const size_t inputs = (size_t)(ROWS * groups * state_dim), one = (size_t)(head_dim * state_dim);
    const size_t kept = SLOTS * (size_t)heads * one;
    float *x = noises(values, 1), *b = noises(inputs, 1), *c = noises(inputs, 1);
    float *dt = noises(gates, 3), *bias = noises((size_t)heads, 1), *a = noises((size_t)heads, 1);
    float *d = noises((size_t)heads, 1), *state = noises(kept, 1), *last = malloc(kept * 4);
    float *out = malloc(values * 4), *expected = malloc(values * 4);
    for (int h = 0; h < heads; h++)
        a[h] = -fabsf(a[h]);
    memcpy(last, state, kept * 4);
    for (int s = 0; s < SEQUENCES; s++)
        for (int h = 0; h < heads; h++) {
            float *mine = last + (size_t)(SLOT[s] * heads + h) * one;
            if (FRESH[s])
                memset(mine, 0, one * 4);
            for (int row = STARTS[s]; row < STARTS[s + 1]; row++) {
                const int in = (row * groups + h / (heads / groups)) * state_dim;
                const int at = row * heads + h;
                token(x + at * head_dim, b + in, c + in, (double)dt[at] + bias[h], a[h], d[h],
                      head_dim, state_dim, mine, expected + at * head_dim);
            }
        }
    op_ssm_scan(x, b, c, dt, bias, a, d, state, STARTS, SLOT, FRESH, SEQUENCES, groups, heads,
                head_dim, state_dim, LEAST, MOST, out);
    compare("ssm_scan", out, expected, values, 1e-4f);
    compare("ssm_scan, state", state, last, kept, 1e-4f);
    void *all[] = {x, b, c, dt, bias, a, d, state, last, out, expected};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* The last two are enough work to be shared out among threads. */
void check_ssm_scan(void) {
    check(1, 1, 1, 1);
    check(1, 2, 5, 7);
    check(2, 4, 3, 33);
    check(3, 6, 14, 40);
    check(2, 4, 33, 70);
}
