/* Attention in both directions beside plain loops. */
#include "check.h"

int op_encoder_attention(const float *qkv, const float *bias, const int *starts, int sequences,
                         int heads, int head_dim, int longest, int window, float scale, float *out);

static void plain(const float *qkv, const float *bias, int from, int to, int head, int heads,
                  int dim, int longest, int window, int row, float *out) {
    const int hidden = heads * dim;
    double weights[256], sum = 0, top = -1e300;
    for (int key = from; key < to; key++) {
        double score = bias ? bias[head * (2 * longest - 1) + longest - 1 + key - row] : 0;
        for (int i = 0; i < dim; i++)
            score += 0.3 * qkv[row * 3 * hidden + head * dim + i] *
                     qkv[key * 3 * hidden + hidden + head * dim + i];
        weights[key - from] = window < 0 || abs(key - row) <= window ? score : -1e300;
        top = fmax(top, weights[key - from]);
    }
    for (int key = from; key < to; key++)
        sum += weights[key - from] = exp(weights[key - from] - top);
    for (int i = 0; i < dim; i++) {
        double value = 0;
        for (int key = from; key < to; key++)
            value += weights[key - from] * qkv[key * 3 * hidden + 2 * hidden + head * dim + i];
        out[row * hidden + head * dim + i] = (float)(value / sum);
    }
}

static void check(int heads, int dim, int window, int biased) {
    enum { LONGEST = 140 };
    const int starts[] = {0, 1, 18, 82, 147, 147 + LONGEST}, sequences = 5, rows = 147 + LONGEST;
    const size_t hidden = (size_t)heads * (size_t)dim, size = (size_t)rows * hidden;
    float *qkv = noises(3 * size, 3), *out = malloc(size * 4), *expected = malloc(size * 4);
    float *bias = noises((size_t)heads * (2 * LONGEST - 1), 2);
    op_encoder_attention(qkv, biased ? bias : 0, starts, sequences, heads, dim, LONGEST, window,
                         0.3f, out);
    for (int i = 0; i < sequences; i++)
        for (int row = starts[i]; row < starts[i + 1]; row++)
            for (int head = 0; head < heads; head++)
                plain(qkv, biased ? bias : 0, starts[i], starts[i + 1], head, heads, dim, LONGEST,
                      window, row, expected);
    compare("encoder_attention", out, expected, size, 1e-4f);
    void *all[] = {qkv, out, expected, bias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

void check_encoder_attention(void) {
    const int dims[] = {1, 10, 32}, windows[] = {-1, 0, 5, 64};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (size_t j = 0; j < sizeof windows / sizeof *windows; j++)
            check(2, dims[i], windows[j], (i + j) & 1);
}
