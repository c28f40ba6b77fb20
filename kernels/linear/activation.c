/* The activation of a layer, or, of a gated one, of gate and up side by side. */
#include "activation.h"
#include "export.h"
#include "threads.h"

typedef struct {
    const float *x; /* (rows, 2 * width), or (rows, width) without a gate */
    float *out;     /* (rows, width) */
    int rows, width, kind;
    float limit;
    int each; /* rows of a task */
} Layer;

/* `kind` is a constant where this is called, so that the loop holds one activation. */
INLINE void gate_row(const Layer *l, int row, int kind) {
    const float *gate = l->x + (ptrdiff_t)row * 2 * l->width, *up = gate + l->width;
    float *out = l->out + (ptrdiff_t)row * l->width;
    for (int i = 0; i < l->width; i += LANES) {
        const int left = l->width - i;
        vf_put(out + i, gated(vf_next(gate + i, left), vf_next(up + i, left), kind, l->limit),
               left);
    }
}

INLINE void plain_row(const Layer *l, int row, int kind) {
    const ptrdiff_t start = (ptrdiff_t)row * l->width;
    for (int i = 0; i < l->width; i += LANES) {
        const int left = l->width - i;
        vf_put(l->out + start + i, activated(vf_next(l->x + start + i, left), kind), left);
    }
}

static void run(void *context, int index) {
    const Layer *l = context;
    for (int row = index * l->each; row < l->rows && row < (index + 1) * l->each; row++)
        switch (l->kind) {
        case SILU: gate_row(l, row, SILU); break;
        case GELU: gate_row(l, row, GELU); break;
        case GELU_TANH: gate_row(l, row, GELU_TANH); break;
        case SWIGLU_CLAMPED: gate_row(l, row, SWIGLU_CLAMPED); break;
        case RELU2: gate_row(l, row, RELU2); break;
        }
}

static void run_plain(void *context, int index) {
    const Layer *l = context;
    for (int row = index * l->each; row < l->rows && row < (index + 1) * l->each; row++)
        switch (l->kind) {
        case SILU: plain_row(l, row, SILU); break;
        case GELU: plain_row(l, row, GELU); break;
        case GELU_TANH: plain_row(l, row, GELU_TANH); break;
        case RELU2: plain_row(l, row, RELU2); break;
        }
}

EXPORT int op_activate(const float *x, int rows, int width, int kind, float limit, float *out) {
    Layer l = {x, out, rows, width, kind, limit, 1 + (1 << 13) / width};
    parallel((rows - 1) / l.each + 1, run, &l);
    return 0;
}
ENTRY(op_activate, w[0].p, w[1].i, w[2].i, w[3].i, w[4].f, w[5].p)

EXPORT int op_activate_plain(const float *x, int rows, int width, int kind, float *out) {
    Layer l = {x, out, rows, width, kind, 0, 1 + (1 << 13) / width};
    parallel((rows - 1) / l.each + 1, run_plain, &l);
    return 0;
}
ENTRY(op_activate_plain, w[0].p, w[1].i, w[2].i, w[3].i, w[4].p)
