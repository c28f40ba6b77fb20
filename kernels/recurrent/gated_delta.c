/* The gated delta rule over a ragged step: each sequence's state is read, changed and written back.

   Columns of a head's state do not mix, so a task walks all tokens with COLUMNS vectors of them,
   which stay in the first cache. */
#include "export.h"
#include "threads.h"
#include "simd.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { COLUMNS = 4 };
#define NORM_EPS 1e-6f /* as in flash-linear-attention */

typedef struct {
    const float *q, *k;     /* (rows, key_heads, key_dim) */
    const float *v;         /* (rows, heads, value_dim) */
    const float *g, *beta;  /* (rows, heads) */
    float *state;           /* (slots, heads, key_dim, value_dim) */
    const int32_t *starts, *state_slots, *fresh; /* (sequences + 1,), (sequences,), (sequences,) */
    float *out;             /* (rows, heads, value_dim) */
    int key_heads, heads, key_dim, value_dim, normalise;
    float scale; /* of q */
    atomic_int failed;
} Delta;

/* x / |x| * scale, or only scaled. */
static void direction(const float *x, int count, int normalise, float scale, float *out) {
    vf sum = {0};
    for (int i = 0; normalise && i < count; i += LANES) {
        vf v = vf_next(x + i, count - i);
        sum = vf_fma(v, v, sum);
    }
    if (normalise)
        scale *= 1 / sqrtf(vf_sum(sum) + NORM_EPS);
    for (int i = 0; i < count; i += LANES)
        vf_put(out + i, vf_next(x + i, count - i) * scale, count - i);
}

/* One token in `count` vectors of columns, of which `left` elements are there. */
INLINE void token(const Delta *d, float *state, const float *q, const float *k, const float *v,
                  float decay, float beta, int count, int left, float *out) {
    vf change[COLUMNS], sum[COLUMNS];
    for (int c = 0; c < count; c++)
        change[c] = sum[c] = (vf){0};
    for (int i = 0; i < d->key_dim; i++)
        for (int c = 0; c < count; c++)
            change[c] = vf_fma(
                vf_next(state + (ptrdiff_t)i * d->value_dim + c * LANES, left - c * LANES) * decay,
                vf_set(k[i]), change[c]);
    for (int c = 0; c < count; c++)
        change[c] = (vf_next(v + c * LANES, left - c * LANES) - change[c]) * beta;
    for (int i = 0; i < d->key_dim; i++)
        for (int c = 0; c < count; c++) {
            float *place = state + (ptrdiff_t)i * d->value_dim + c * LANES;
            vf s = vf_next(place, left - c * LANES) * decay;
            s = vf_fma(vf_set(k[i]), change[c], s);
            sum[c] = vf_fma(s, vf_set(q[i]), sum[c]);
            vf_put(place, s, left - c * LANES);
        }
    for (int c = 0; c < count; c++)
        vf_put(out + c * LANES, sum[c], left - c * LANES);
}

static void walk(const Delta *d, int sequence, int head, int column, float *scratch) {
    const int left = d->value_dim - column;
    const int key_head = head / (d->heads / d->key_heads);
    float *state = d->state + ((ptrdiff_t)d->state_slots[sequence] * d->heads + head) * d->key_dim *
                                  d->value_dim + column;
    float *q = scratch, *k = scratch + d->key_dim;
    for (int row = d->starts[sequence]; row < d->starts[sequence + 1]; row++) {
        const ptrdiff_t key = ((ptrdiff_t)row * d->key_heads + key_head) * d->key_dim;
        const ptrdiff_t gate = (ptrdiff_t)row * d->heads + head;
        const ptrdiff_t place = gate * d->value_dim + column;
        const float decay = vf_exp(vf_set(d->g[gate]))[0], beta = d->beta[gate];
        direction(d->q + key, d->key_dim, d->normalise, d->scale, q);
        direction(d->k + key, d->key_dim, d->normalise, 1, k);
        if (left >= COLUMNS * LANES)
            token(d, state, q, k, d->v + place, decay, beta, COLUMNS, COLUMNS * LANES,
                  d->out + place);
        else
            for (int c = 0; c < left; c += LANES)
                token(d, state + c, q, k, d->v + place + c, decay, beta, 1, left - c,
                      d->out + place + c);
    }
}

static int parts(const Delta *d) {
    return (d->value_dim - 1) / (COLUMNS * LANES) + 1;
}

static void clear(const Delta *d, int sequence, int head, int column) {
    const int count = d->value_dim - column < COLUMNS * LANES ? d->value_dim - column
                                                              : COLUMNS * LANES;
    float *state = d->state + ((ptrdiff_t)d->state_slots[sequence] * d->heads + head) * d->key_dim *
                                  d->value_dim + column;
    for (int i = 0; i < d->key_dim; i++)
        memset(state + (ptrdiff_t)i * d->value_dim, 0, sizeof(float) * (size_t)count);
}

static void run(void *context, int index) {
    Delta *d = context;
    const int column = index % parts(d) * COLUMNS * LANES, head = index / parts(d) % d->heads;
    const int sequence = index / parts(d) / d->heads;
    float *scratch = malloc(sizeof(float) * 2 * (size_t)d->key_dim);
    if (!scratch) {
        atomic_store(&d->failed, 1);
        return;
    }
    if (d->fresh[sequence])
        clear(d, sequence, head, column);
    walk(d, sequence, head, column, scratch);
    free(scratch);
}

EXPORT int op_gated_delta(const float *q, const float *k, const float *v, const float *g,
                          const float *beta, float *state, const int32_t *starts,
                          const int32_t *state_slots, const int32_t *fresh, int sequences, int key_heads,
                          int heads, int key_dim, int value_dim, int normalise, float scale,
                          float *out) {
    Delta d = {q,     k,   v,         g,     beta,    state,     starts,    state_slots,
               fresh, out, key_heads, heads, key_dim, value_dim, normalise, scale, 0};
    const int tasks = sequences * heads * parts(&d);
    if ((int64_t)starts[sequences] * heads * key_dim * value_dim < 1 << 15)
        for (int i = 0; i < tasks; i++)
            run(&d, i);
    else
        parallel(tasks, run, &d);
    return atomic_load(&d.failed);
}
ENTRY(op_gated_delta, w[0].p, w[1].p, w[2].p, w[3].p, w[4].p, w[5].p, w[6].p, w[7].p, w[8].p,
      w[9].i, w[10].i, w[11].i, w[12].i, w[13].i, w[14].i, w[15].f, w[16].p)
