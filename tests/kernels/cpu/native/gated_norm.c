/* The gated norm beside plain loops. */
#include "check.h"

int op_gated_norm(const float *y, const float *gate, const void *weight, int weight_type, int rows,
                  int width, int groups, int gate_first, float eps, float *out);

static double silu(double v) {
    return v / (1 + exp(-v));
}

/* `size` elements of a row. */
static void plain(const float *y, const float *gate, const float *weight, int size, int gate_first,
                  float *out) {
    double square = 0;
    for (int i = 0; i < size; i++) {
        const double v = gate_first ? y[i] * silu(gate[i]) : y[i];
        square += v * v / size;
    }
    for (int i = 0; i < size; i++)
        out[i] = (float)(y[i] * silu(gate[i]) / sqrt(square + 1e-5) * weight[i]);
}

static void check(int rows, int size, int groups, int gate_first) {
    const int width = size * groups;
    const size_t all = (size_t)rows * (size_t)width;
    float *y = noises(all, 2), *gate = noises(all, 6), *weight = noises((size_t)width, 1);
    float *out = malloc(all * 4), *expected = malloc(all * 4);
    uint16_t *half = malloc((size_t)width * 2);
    for (int i = 0; i < width; i++) {
        half[i] = to_bf16(weight[i]);
        const uint32_t wide = (uint32_t)half[i] << 16;
        memcpy(weight + i, &wide, 4);
    }
    op_gated_norm(y, gate, half, 2, rows, width, groups, gate_first, 1e-5f, out);
    for (size_t at = 0; at < all; at += (size_t)size)
        plain(y + at, gate + at, weight + at % (size_t)width, size, gate_first, expected + at);
    compare("gated_norm", out, expected, all, 1e-4f);
    op_gated_norm(y, gate, weight, 0, rows, width, groups, gate_first, 1e-5f, out);
    compare("gated_norm, float32", out, expected, all, 1e-4f);
    void *used[] = {y, gate, weight, out, expected, half};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        free(used[i]);
}

/* The last has more rows than a task takes. */
void check_gated_norm(void) {
    const int sizes[] = {1, 3, 17, 64, 600};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int gate_first = 0; gate_first < 2; gate_first++) {
            check(2, sizes[i], 1, gate_first);
            check(i == 4 ? 20 : 3, sizes[i], 3, gate_first);
        }
}
