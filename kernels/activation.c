/* The activation of a gated layer, of gate and up side by side. */
#include "activation.h"
#include "export.h"
#include "pool.h"

typedef struct {
    const float *x; /* (rows, 2 * width) */
    float *out;     /* (rows, width) */
    int rows, width, kind;
    float limit;
    int each; /* rows of a task */
} Gated;

/* `kind` is a constant where this is called, so that the loop holds one activation. */
INLINE void gate_row(const Gated *g, int row, int kind) {
    const float *gate = g->x + (ptrdiff_t)row * 2 * g->width, *up = gate + g->width;
    float *out = g->out + (ptrdiff_t)row * g->width;
    for (int i = 0; i < g->width; i += LANES) {
        const int left = g->width - i;
        vf_put(out + i, gated(vf_next(gate + i, left), vf_next(up + i, left), kind, g->limit),
               left);
    }
}

static void run(void *context, int index) {
    const Gated *g = context;
    for (int row = index * g->each; row < g->rows && row < (index + 1) * g->each; row++)
        switch (g->kind) {
        case SILU: gate_row(g, row, SILU); break;
        case GELU: gate_row(g, row, GELU); break;
        case GELU_TANH: gate_row(g, row, GELU_TANH); break;
        case SWIGLU_CLAMPED: gate_row(g, row, SWIGLU_CLAMPED); break;
        }
}

EXPORT int op_activate(const float *x, int rows, int width, int kind, float limit, float *out) {
    Gated g = {x, out, rows, width, kind, limit, 1 + (1 << 13) / width};
    parallel((rows - 1) / g.each + 1, run, &g);
    return 0;
}
