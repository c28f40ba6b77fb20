/* Both norms beside plain loops. */
#include "check.h"

int op_norm(const float *x, const void *weight, int weight_type, const void *bias, int bias_type,
            int rows, int width, int centred, float eps, float *out);

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

static void check(int rows, int width, int centred) {
    const size_t size = (size_t)rows * (size_t)width;
    float *x = noises(size, 2), *weight = noises((size_t)width, 1);
    float *bias = noises((size_t)width, 1), *expected = malloc(size * 4);
    float *out = malloc(size * 4);
    uint16_t *half = malloc((size_t)width * 2);
    for (int i = 0; i < width; i++) {
        half[i] = to_bf16(weight[i]);
        const uint32_t wide = (uint32_t)half[i] << 16;
        memcpy(weight + i, &wide, 4);
    }
    op_norm(x, half, 2, centred ? bias : 0, 0, rows, width, centred, 1e-5f, out);
    for (int row = 0; row < rows; row++)
        plain(x + (size_t)row * (size_t)width, weight, centred ? bias : 0, width, centred,
              expected + (size_t)row * (size_t)width);
    compare("norm", out, expected, size, 1e-4f);
    void *all[] = {x, weight, bias, expected, out, half};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

void check_norm(void) {
    const int widths[] = {1, 3, 17, 64, 100, 2049};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int centred = 0; centred < 2; centred++)
            check(i == 5 ? 40 : 3, widths[i], centred);
}
