/* What a token of the gated delta rule forgets of a state, and how far it corrects it. */
#include "export.h"
#include "threads.h"
#include "simd.h"

enum { EACH = 1 << 10 }; /* gates of a task: waking a thread costs as much */

typedef struct {
    const float *decay, *correction; /* (rows, heads) */
    const float *rates, *offsets;    /* (heads,) */
    float *g, *beta;                 /* (rows, heads) */
    int rows, heads, each;           /* each: rows of a task */
} Gates;

static void run(void *context, int index) {
    const Gates *d = context;
    for (int row = index * d->each; row < d->rows && row < (index + 1) * d->each; row++) {
        const ptrdiff_t start = (ptrdiff_t)row * d->heads;
        for (int i = 0; i < d->heads; i++)
            d->g[start + i] = d->rates[i] * softplus(d->decay[start + i] + d->offsets[i]);
        for (int i = 0; i < d->heads; i += LANES) {
            const vf v = vf_next(d->correction + start + i, d->heads - i);
            vf_put(d->beta + start + i, vf_sigmoid(v), d->heads - i);
        }
    }
}

EXPORT int op_delta_gates(const float *decay, const float *correction, const float *rates,
                          const float *offsets, int rows, int heads, float *g, float *beta) {
    Gates d = {decay, correction, rates, offsets, g, beta, rows, heads, 1 + EACH / heads};
    parallel((rows - 1) / d.each + 1, run, &d);
    return 0;
}
ENTRY(op_delta_gates, w[0].p, w[1].p, w[2].p, w[3].p, w[4].i, w[5].i, w[6].p, w[7].p)
