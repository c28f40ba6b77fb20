/* A root mean square norm over parts of a row, with silu(gate) multiplied in before or after it. */
#include "export.h"
#include "threads.h"
#include "simd.h"

#include <math.h>

typedef struct {
    const float *y, *gate; /* (rows, width) */
    const void *weight;    /* (width,) */
    float *out;            /* (rows, width) */
    int rows, width, groups, gate_first;
    int weight_type; /* F32, F16 or BF16 */
    float eps;
    int each; /* rows of a task */
} GatedNorm;

static vf silu(const float *gate, int left) {
    vf v = vf_next(gate, left);
    return v * vf_sigmoid(v);
}

/* `size` elements of a row from `at` on. */
static void normalise(const GatedNorm *n, int row, int at, int size) {
    const ptrdiff_t start = (ptrdiff_t)row * n->width + at;
    const float *y = n->y + start, *gate = n->gate + start;
    float *out = n->out + start;
    vf sum = {0};
    for (int i = 0; i < size; i += LANES) {
        vf v = vf_next(y + i, size - i);
        v = n->gate_first ? v * silu(gate + i, size - i) : v;
        sum = vf_fma(v, v, sum);
        vf_put(out + i, v, size - i);
    }
    const float scale = 1 / sqrtf(vf_sum(sum) / (float)size + n->eps);
    for (int i = 0; i < size; i += LANES) {
        vf v = vf_next(out + i, size - i) * scale;
        v *= vf_next_as(n->weight, at + i, size - i, n->weight_type);
        vf_put(out + i, n->gate_first ? v : v * silu(gate + i, size - i), size - i);
    }
}

static void run(void *context, int index) {
    const GatedNorm *n = context;
    const int size = n->width / n->groups;
    for (int row = index * n->each; row < n->rows && row < (index + 1) * n->each; row++)
        for (int at = 0; at < n->width; at += size)
            normalise(n, row, at, size);
}

EXPORT int op_gated_norm(const float *y, const float *gate, const void *weight, int weight_type,
                         int rows, int width, int groups, int gate_first, float eps, float *out) {
    GatedNorm n = {y, gate, weight, out, rows, width, groups, gate_first, weight_type, eps, 0};
    n.each = 1 + (1 << 13) / width; /* waking a thread costs as much as 8k sigmoids */
    parallel((rows - 1) / n.each + 1, run, &n);
    return 0;
}
ENTRY(op_gated_norm, w[0].p, w[1].p, w[2].p, w[3].i, w[4].i, w[5].i, w[6].i, w[7].i, w[8].f, w[9].p)
