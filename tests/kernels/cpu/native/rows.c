/* Rows beside their definitions. */
#include "check.h"

int op_copy_columns(const float *from, int from_stride, int rows, int columns, float *into,
                    int into_stride);
int op_add(const float *x, const float *y, float scale, int size, float *out);
int op_multiply(const float *x, const float *y, int size, float *out);
int op_gated_add(const float *y, const float *gates, const float *residual, int rows, int width,
                 float *out);

static void check_columns(int rows, int width) {
    const size_t size = (size_t)rows * width;
    float *x = noises(size, 1), *out = malloc(size * sizeof *out);
    for (int first = 0; first < width; first += 5) { /* parts of 5, side by side again */
        const int columns = width - first < 5 ? width - first : 5;
        op_copy_columns(x + first, width, rows, columns, out + first, width);
    }
    compare("copy_columns", out, x, size, 0);
    free(x), free(out);
}

static void check_sums(int rows, int width) {
    const size_t size = (size_t)rows * width;
    float *x = noises(size, 1), *y = noises(size, 1), *gates = noises((size_t)rows, 4);
    float *out = malloc(size * sizeof *out), *expected = malloc(size * sizeof *out);
    for (int with = 0; with < 2; with++) {
        op_add(with ? x : 0, y, 0.3f, (int)size, out);
        for (size_t i = 0; i < size; i++)
            expected[i] = (with ? x[i] : 0) + 0.3f * y[i];
        compare("add", out, expected, size, 1e-6f);
        op_gated_add(y, gates, with ? x : 0, rows, width, out);
        for (size_t i = 0; i < size; i++)
            expected[i] = y[i] / (1 + expf(-gates[i / (size_t)width])) + (with ? x[i] : 0);
        compare("gated_add", out, expected, size, 1e-5f);
    }
    op_multiply(x, y, (int)size, out);
    for (size_t i = 0; i < size; i++)
        expected[i] = x[i] * y[i];
    compare("multiply", out, expected, size, 0);
    free(x), free(y), free(gates), free(out), free(expected);
}

void check_rows(void) {
    const int rows[] = {1, 3}, widths[] = {1, 7, 33};
    for (int r = 0; r < 2; r++)
        for (int w = 0; w < 3; w++) {
            check_columns(rows[r], widths[w]);
            check_sums(rows[r], widths[w]);
        }
}
