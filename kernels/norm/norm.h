/* What norms over the last axis share. */
#pragma once
#include "threads.h"
#include "simd.h"

#include <math.h>

typedef struct {
    const float *x;             /* (rows, width) */
    const void *weight, *bias;  /* (width,); the second may be null */
    float *out;                 /* (rows, width) */
    int rows, width;
    int weight_type, bias_type; /* F32, F16 or BF16 */
    float eps;
    int each; /* rows of a task */
} Norm;

INLINE float mean_square(const float *x, int width, float mean) {
    vf sum = {0};
    int i = 0;
    for (; i + LANES <= width; i += LANES) {
        vf v = vf_load(x + i) - mean;
        sum = vf_fma(v, v, sum);
    }
    float rest = 0; /* lanes beyond the end would hold -mean */
    for (; i < width; i++)
        rest += (x[i] - mean) * (x[i] - mean);
    return (vf_sum(sum) + rest) / (float)width;
}

/* Writes one row less its mean, scaled to a mean square of 1, times the weight, plus the bias. */
INLINE void normalise(const Norm *n, int row, float mean) {
    const ptrdiff_t start = (ptrdiff_t)row * n->width;
    const float *x = n->x + start;
    float *out = n->out + start;
    const float scale = 1 / sqrtf(mean_square(x, n->width, mean) + n->eps);
    for (int i = 0; i < n->width; i += LANES) {
        const int left = n->width - i;
        vf v = (vf_next(x + i, left) - mean) * scale;
        v *= vf_next_as(n->weight, i, left, n->weight_type);
        if (n->bias)
            v += vf_next_as(n->bias, i, left, n->bias_type);
        vf_put(out + i, v, left);
    }
}

INLINE int last_row(const Norm *n, int task) {
    const int end = (task + 1) * n->each;
    return end < n->rows ? end : n->rows;
}

/* Runs tasks of `each` rows, from task * each to last_row. */
INLINE void in_tasks(Norm *n, Task task) {
    n->each = 1 + (1 << 15) / n->width; /* waking a thread costs as much as 32k elements */
    parallel((n->rows - 1) / n->each + 1, task, n);
}
