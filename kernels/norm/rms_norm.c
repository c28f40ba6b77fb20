/* Root mean square normalisation over the last axis. */
#include "export.h"
#include "norm.h"

static void run(void *context, int task) {
    const Norm *n = context;
    for (int row = task * n->each; row < last_row(n, task); row++)
        normalise(n, row, 0);
}

EXPORT int op_rms_norm(const float *x, const void *weight, int weight_type, int rows, int width,
                       float eps, float *out) {
    Norm n = {x, weight, 0, out, rows, width, weight_type, 0, eps, 0};
    in_tasks(&n, run);
    return 0;
}
ENTRY(op_rms_norm, w[0].p, w[1].p, w[2].i, w[3].i, w[4].i, w[5].f, w[6].p)
