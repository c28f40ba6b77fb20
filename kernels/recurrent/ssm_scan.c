/* The selective scan of Mamba 2 over a ragged step: each sequence's state is read, changed and
   written back.

   Rows of a head's state do not mix. A few of them are taken through a batch of tokens before the
   next ones, so that they stay in the first cache, and with them the batch's b and c. */
#include "export.h"
#include "threads.h"
#include "simd.h"

enum { ROWS = 4, TOKENS = 16 };

typedef struct {
    const float *x;               /* (rows, heads, head_dim) */
    const float *b, *c;           /* (rows, groups, state_dim) */
    const float *dt;              /* (rows, heads) */
    const float *dt_bias, *a, *d; /* (heads,) */
    float *state;                 /* (slots, heads, head_dim, state_dim) */
    const int32_t *starts, *state_slots, *fresh; /* (sequences + 1,), (sequences,), (sequences,) */
    float *out;                   /* (rows, heads, head_dim) */
    int groups, heads, head_dim, state_dim;
    float min_step, max_step; /* of a step */
} Scan;

/* NaN of NaN. */
static float cut(float v, float min_step, float max_step) {
    return v < min_step ? min_step : v > max_step ? max_step : v;
}

/* LANES columns of `count` rows from `state` on, or the `left` of them that there are. */
INLINE void columns(float *state, int state_dim, const float *b, const float *c, const float *push,
                    float decay, int count, int left, vf *sum) {
    const vf in = vf_next(b, left), seen = vf_next(c, left);
    for (int r = 0; r < count; r++) {
        float *place = state + (ptrdiff_t)r * state_dim;
        vf s = vf_fma(in, vf_set(push[r]), vf_next(place, left) * decay);
        sum[r] = vf_fma(s, seen, sum[r]);
        vf_put(place, s, left);
    }
}

/* One token in `count` rows. */
INLINE void token(float *state, int state_dim, const float *b, const float *c, const float *x,
                  float step, float decay, float d, int count, float *out) {
    vf sum[ROWS];
    float push[ROWS];
    for (int r = 0; r < count; r++) {
        sum[r] = (vf){0};
        push[r] = step * x[r];
    }
    int i = 0;
    for (; i + LANES <= state_dim; i += LANES)
        columns(state + i, state_dim, b + i, c + i, push, decay, count, LANES, sum);
    if (i < state_dim)
        columns(state + i, state_dim, b + i, c + i, push, decay, count, state_dim - i, sum);
    for (int r = 0; r < count; r++)
        out[r] = vf_sum(sum[r]) + d * x[r];
}

/* `count` tokens, at most TOKENS, from `row` on. */
static void batch(const Scan *s, float *state, int row, int count, int head) {
    const int group = head / (s->heads / s->groups);
    float step[TOKENS], decay[TOKENS];
    for (int i = 0; i < count; i++) {
        const float dt = s->dt[(ptrdiff_t)(row + i) * s->heads + head];
        step[i] = cut(softplus(dt + s->dt_bias[head]), s->min_step, s->max_step);
        decay[i] = expf(step[i] * s->a[head]);
    }
    for (int p = 0; p < s->head_dim; p += ROWS)
        for (int i = 0; i < count; i++) {
            const ptrdiff_t gate = ((ptrdiff_t)(row + i) * s->groups + group) * s->state_dim;
            const ptrdiff_t place = ((ptrdiff_t)(row + i) * s->heads + head) * s->head_dim + p;
            const float *b = s->b + gate, *c = s->c + gate, *x = s->x + place, d = s->d[head];
            float *states = state + (ptrdiff_t)p * s->state_dim, *out = s->out + place;
            if (p + ROWS <= s->head_dim)
                token(states, s->state_dim, b, c, x, step[i], decay[i], d, ROWS, out);
            else
                for (int r = 0; p + r < s->head_dim; r++)
                    token(states + (ptrdiff_t)r * s->state_dim, s->state_dim, b, c, x + r, step[i],
                          decay[i], d, 1, out + r);
        }
}

static void run(void *context, int index) {
    const Scan *s = context;
    const int sequence = index / s->heads, head = index % s->heads;
    const size_t size = (size_t)s->head_dim * (size_t)s->state_dim;
    const size_t place = (size_t)s->state_slots[sequence] * (size_t)s->heads + (size_t)head;
    float *state = s->state + place * size;
    const int stop = s->starts[sequence + 1];
    if (s->fresh[sequence])
        memset(state, 0, sizeof(float) * size);
    for (int row = s->starts[sequence]; row < stop; row += TOKENS)
        batch(s, state, row, stop - row < TOKENS ? stop - row : TOKENS, head);
}

EXPORT int op_ssm_scan(const float *x, const float *b, const float *c, const float *dt,
                       const float *dt_bias, const float *a, const float *d, float *state,
                       const int32_t *starts, const int32_t *state_slots, const int32_t *fresh,
                       int sequences, int groups, int heads, int head_dim, int state_dim,
                       float min_step, float max_step, float *out) {
    Scan s = {x,     b,   c,      dt,    dt_bias,  a,         d,     state, starts, state_slots,
              fresh, out, groups, heads, head_dim, state_dim, min_step, max_step};
    const int tasks = sequences * heads;
    if ((int64_t)starts[sequences] * heads * head_dim * state_dim < 1 << 15)
        for (int i = 0; i < tasks; i++)
            run(&s, i);
    else
        parallel(tasks, run, &s);
    return 0;
}
ENTRY(op_ssm_scan, w[0].p, w[1].p, w[2].p, w[3].p, w[4].p, w[5].p, w[6].p, w[7].p, w[8].p, w[9].p,
      w[10].p, w[11].i, w[12].i, w[13].i, w[14].i, w[15].i, w[16].f, w[17].f, w[18].p)
