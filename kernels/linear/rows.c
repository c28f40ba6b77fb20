/* Rows are taken apart, joined, gated and added: what lies between a layer's larger operations. */
#include "activation.h"
#include "export.h"

#include <string.h>

/* Copies `columns` of each row, which begin `stride` numbers after those of the row before. */
EXPORT int op_copy_columns(const float *from, int from_stride, int rows, int columns, float *into,
                           int into_stride) {
    for (int row = 0; row < rows; row++)
        memcpy(into + (size_t)row * into_stride, from + (size_t)row * from_stride,
               sizeof *into * (size_t)columns);
    return 0;
}
ENTRY(op_copy_columns, w[0].p, w[1].i, w[2].i, w[3].i, w[4].p, w[5].i)

/* x + y * scale; without x, y * scale. */
EXPORT int op_add(const float *x, const float *y, float scale, int size, float *out) {
    if (x)
        for (int i = 0; i < size; i++)
            out[i] = x[i] + y[i] * scale;
    else
        for (int i = 0; i < size; i++)
            out[i] = y[i] * scale;
    return 0;
}
ENTRY(op_add, w[0].p, w[1].p, w[2].f, w[3].i, w[4].p)

/* y * sigmoid(gates), a gate a row, plus the residual, if there is one. */
EXPORT int op_gated_add(const float *y, const float *gates, const float *residual, int rows,
                        int width, float *out) {
    for (int row = 0; row < rows; row++) {
        const float share = vf_sigmoid(vf_set(gates[row]))[0];
        for (int i = row * width; i < (row + 1) * width; i++) {
            const float gated = y[i] * share;
            out[i] = residual ? gated + residual[i] : gated;
        }
    }
    return 0;
}
ENTRY(op_gated_add, w[0].p, w[1].p, w[2].p, w[3].i, w[4].i, w[5].p)

/* x * y of as many numbers. */
EXPORT int op_multiply(const float *x, const float *y, int size, float *out) {
    for (int i = 0; i < size; i++)
        out[i] = x[i] * y[i];
    return 0;
}
ENTRY(op_multiply, w[0].p, w[1].p, w[2].i, w[3].p)
