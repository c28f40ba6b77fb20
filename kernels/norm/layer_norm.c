/* Layer normalisation over the last axis: the mean is taken off first. */
#include "export.h"
#include "norm.h"

static float mean_of(const float *x, int width) {
    vf sum = {0};
    for (int i = 0; i < width; i += LANES)
        sum += vf_next(x + i, width - i);
    return vf_sum(sum) / (float)width;
}

static void run(void *context, int task) {
    const Norm *n = context;
    for (int row = task * n->each; row < last_row(n, task); row++)
        normalise(n, row, mean_of(n->x + (ptrdiff_t)row * n->width, n->width));
}

/* `bias` may be null. */
EXPORT int op_layer_norm(const float *x, const void *weight, int weight_type, const void *bias,
                         int bias_type, int rows, int width, float eps, float *out) {
    Norm n = {x, weight, bias, out, rows, width, weight_type, bias_type, eps, 0};
    in_tasks(&n, run);
    return 0;
}
ENTRY(op_layer_norm, w[0].p, w[1].p, w[2].i, w[3].p, w[4].i, w[5].i, w[6].i, w[7].f, w[8].p)
