/* The activations, gated and plain, beside the C library's functions. */
#include "check.h"

int op_activate(const float *x, int rows, int width, int kind, float limit, float *out);
int op_activate_plain(const float *x, int rows, int width, int kind, float *out);

static double plain(double gate, double up, int kind) {
    if (kind == 1)
        return gate / (1 + exp(-gate)) * up;
    if (kind == 2)
        return 0.5 * gate * (1 + erf(gate / sqrt(2))) * up;
    if (kind == 3)
        return 0.5 * gate * (1 + tanh(0.7978845608 * (gate + 0.044715 * gate * gate * gate))) * up;
    if (kind == 5)
        return gate > 0 ? gate * gate * up : 0;
    gate = fmin(gate, 7);
    return gate / (1 + exp(-1.702 * gate)) * (fmax(-7, fmin(up, 7)) + 1);
}

static void check(int rows, int width, int kind) {
    const size_t size = (size_t)rows * (size_t)width;
    float *x = noises(2 * size, 9), *out = malloc(size * 4), *expected = malloc(size * 4);
    op_activate(x, rows, width, kind, 7, out);
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < width; i++) {
            const float *gate = x + (size_t)row * 2 * (size_t)width;
            expected[(size_t)row * (size_t)width + (size_t)i] =
                (float)plain(gate[i], gate[width + i], kind);
        }
    compare("activation", out, expected, size, 2e-5f);
    free(x);
    free(out);
    free(expected);
}

static void check_plain(int rows, int width, int kind) {
    const size_t size = (size_t)rows * (size_t)width;
    float *x = noises(size, 9), *out = malloc(size * 4), *expected = malloc(size * 4);
    op_activate_plain(x, rows, width, kind, out);
    for (size_t i = 0; i < size; i++)
        expected[i] = (float)plain(x[i], 1, kind);
    compare("activation, plain", out, expected, size, 2e-5f);
    free(x), free(out), free(expected);
}

void check_activation(void) {
    const int widths[] = {1, 7, 32, 45, 3000};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int kind = 1; kind <= 5; kind++) {
            check(7, widths[i], kind);
            if (kind != 4)
                check_plain(7, widths[i], kind);
        }
}
