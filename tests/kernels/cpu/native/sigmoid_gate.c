/* A gate beside its definition. */
#include "check.h"

int op_sigmoid_gate(const float *x, const float *gates, int rows, int width, float *out);

void check_sigmoid_gate(void) {
    const int rows[] = {1, 3, 5}, widths[] = {1, 7, 33, 4096};
    for (int r = 0; r < 3; r++)
        for (int w = 0; w < 4; w++) {
            const size_t size = (size_t)rows[r] * widths[w];
            float *x = noises(size, 1), *gates = noises(size, 4);
            float *out = malloc(size * sizeof *out), *expected = malloc(size * sizeof *out);
            op_sigmoid_gate(x, gates, rows[r], widths[w], out);
            for (size_t i = 0; i < size; i++)
                expected[i] = x[i] / (1 + expf(-gates[i]));
            compare("sigmoid_gate", out, expected, size, 1e-5f);
            free(x), free(gates), free(out), free(expected);
        }
}
