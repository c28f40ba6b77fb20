/* Norms over the last axis. */
#include "export.h"
#include "threads.h"
#include "simd.h"

#include <math.h>

typedef struct {
    const float *x;             /* (rows, width) */
    const void *weight, *bias;  /* (width,); the second may be null */
    float *out;                 /* (rows, width) */
    int rows, width, centred;   /* centred: the mean is taken off first */
    int weight_type, bias_type; /* F32, F16 or BF16 */
    float eps;
    int each; /* rows of a task */
} Norm;

static float mean_of(const float *x, int width) {
    vf sum = {0};
    for (int i = 0; i < width; i += LANES)
        sum += vf_next(x + i, width - i);
    return vf_sum(sum) / (float)width;
}

static float mean_square(const float *x, int width, float mean) {
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

static void normalise(const Norm *n, int row) {
    const ptrdiff_t start = (ptrdiff_t)row * n->width;
    const float *x = n->x + start;
    float *out = n->out + start;
    const float mean = n->centred ? mean_of(x, n->width) : 0;
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

static void run(void *context, int index) {
    const Norm *n = context;
    for (int row = index * n->each; row < n->rows && row < (index + 1) * n->each; row++)
        normalise(n, row);
}

/* out receives the norm of x; see Norm. */
EXPORT int op_norm(const float *x, const void *weight, int weight_type, const void *bias,
                   int bias_type, int rows, int width, int centred, float eps, float *out) {
    Norm n = {x, weight, bias, out, rows, width, centred, weight_type, bias_type, eps, 0};
    n.each = 1 + (1 << 15) / width; /* waking a thread costs as much as 32k elements */
    parallel((rows - 1) / n.each + 1, run, &n);
    return 0;
}
