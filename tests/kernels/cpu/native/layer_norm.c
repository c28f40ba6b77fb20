/* The layer norm beside a plain loop; what both norms' cases share. */
#include "norm.h"

int op_layer_norm(const float *x, const void *weight, int weight_type, const void *bias,
                  int bias_type, int rows, int width, float eps, float *out);

static void plain(const float *x, const float *weight, const float *bias, int width, int centred,
                  float *out) {
    double mean = 0, square = 0;
    for (int i = 0; i < width && centred; i++)
        mean += (double)x[i] / width;
    for (int i = 0; i < width; i++)
        square += (x[i] - mean) * (x[i] - mean) / width;
    for (int i = 0; i < width; i++)
        out[i] = (float)((x[i] - mean) / sqrt(square + 1e-5) * weight[i] + (bias ? bias[i] : 0));
}

NormCase norm_case(int rows, int width) {
    const size_t size = (size_t)rows * (size_t)width;
    NormCase c = {rows, width, noises(size, 2), noises((size_t)width, 1), noises((size_t)width, 1),
                  malloc(size * 4), malloc((size_t)width * 2)};
    for (int i = 0; i < width; i++) {
        c.half[i] = to_bf16(c.weight[i]);
        const uint32_t wide = (uint32_t)c.half[i] << 16;
        memcpy(c.weight + i, &wide, 4);
    }
    return c;
}

void check_norm(const char *name, NormCase c, int centred) {
    const size_t size = (size_t)c.rows * (size_t)c.width;
    float *oracle = malloc(size * 4);
    for (int row = 0; row < c.rows; row++) {
        const size_t start = (size_t)row * (size_t)c.width;
        plain(c.x + start, c.weight, centred ? c.bias : 0, c.width, centred, oracle + start);
    }
    compare(name, c.out, oracle, size, 1e-4f);
    void *all[] = {c.x, c.weight, c.bias, oracle, c.out, c.half};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

void check_layer_norm(void) {
    for (int i = 0; i < WIDTHS; i++) {
        NormCase c = norm_case(WIDTH[i] == 2049 ? 40 : 3, WIDTH[i]);
        op_layer_norm(c.x, c.half, 2, c.bias, 0, c.rows, c.width, 1e-5f, c.out);
        check_norm("layer_norm", c, 1);
    }
}
