/* Attention in both directions: each row sees its whole sequence, or a window before and after it.

   A task has some queries of one head, and goes over the keys in tiles that begin where its window
   does. What it computes follows from its own sequence alone, and so do the bits. */
#include "export.h"
#include "threads.h"
#include "simd.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Queries of a task, keys of a tile; rows and vectors whose sums registers hold. */
enum { QUERIES = 64, KEYS = 64, ROWS = LANES == 8 ? 4 : 8, WIDE = 2 };
#define LEAST_SCORE (-3.0e38f) /* finite, so that differences are never NaN */

typedef struct {
    int first, stop, row, count; /* the sequence's rows; a task's */
} Block;

typedef struct {
    const float *qkv;  /* (rows, 3 * heads * head_dim) */
    const float *bias; /* (heads, 2 * longest - 1), by how much further on a key is; or null */
    float *out;        /* (rows, heads * head_dim) */
    const Block *blocks;
    int heads, head_dim, padded; /* head_dim in whole vectors */
    int longest, window;         /* a negative window is none */
    float scale;
    _Atomic int failed;
} Job;

typedef struct {
    float *q, *keys, *values; /* [QUERIES][head_dim], [head_dim][KEYS], [KEYS][padded] */
    float *scores, *out;      /* [QUERIES][KEYS], [QUERIES][padded] */
    float *top, *kept, *sums; /* [QUERIES]: largest score, what is kept of what came before it */
} Work;

INLINE int least(int a, int b) { return a < b ? a : b; }
INLINE int most(int a, int b) { return a > b ? a : b; }

/* c[rows][columns] = c * kept + a[rows][depth] b[depth][columns], in the order of depth; kept may
   be null, where c begins at 0. */
typedef struct {
    const float *a, *b;
    float *c;
    const float *kept;
    int a_stride, b_stride, c_stride, rows, depth, vectors;
} Product;

INLINE void product_tile(const Product *p, int row, int vector, int rows, int wide) {
    vf sums[ROWS][WIDE] = {0};
    const float *a = p->a + row * p->a_stride, *b = p->b + vector * LANES;
    float *c = p->c + row * p->c_stride + vector * LANES;
    if (p->kept)
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int j = 0; j < wide; j++)
                sums[i][j] = vf_load(c + i * p->c_stride + j * LANES) * p->kept[row + i];
    for (int k = 0; k < p->depth; k++)
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int j = 0; j < wide; j++)
                sums[i][j] = vf_fma(vf_set(a[i * p->a_stride + k]),
                                    vf_load(b + k * p->b_stride + j * LANES), sums[i][j]);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < wide; j++)
            vf_store(c + i * p->c_stride + j * LANES, sums[i][j]);
}

INLINE void product_rows(const Product *p, int vector, int wide) {
    int row = 0;
    for (; row + ROWS <= p->rows; row += ROWS)
        product_tile(p, row, vector, ROWS, wide);
    for (; row < p->rows; row++)
        product_tile(p, row, vector, 1, wide);
}

static void product(const Product *p) {
    int vector = 0;
    for (; vector + WIDE <= p->vectors; vector += WIDE)
        product_rows(p, vector, WIDE);
    for (; vector < p->vectors; vector++)
        product_rows(p, vector, 1);
}

/* Keys `from` to `to` with a token a lane, and their values; lanes beyond hold 0. */
static void gather(const Job *job, const Work *w, int head, int from, int to) {
    const int width = job->head_dim;
    const ptrdiff_t hidden = (ptrdiff_t)job->heads * width;
    for (int i = 0; i < to - from; i++) {
        const float *key = job->qkv + (from + i) * 3 * hidden + hidden + head * width;
        for (int k = 0; k < width; k++)
            w->keys[k * KEYS + i] = key[k];
        memcpy(w->values + i * job->padded, key + hidden, sizeof(float) * (size_t)width);
    }
    for (int k = 0; k < width; k++)
        for (int i = to - from; i < KEYS; i++)
            w->keys[k * KEYS + i] = 0;
}

/* A query's scores of keys from `from` on become weights, where it sees `low` to `high` of them. */
static void soften(const Work *w, int query, int low, int high, const float *bias, const vi *key) {
    float *scores = w->scores + query * KEYS;
    const float before = w->top[query];
    vf s[KEYS / LANES], top = vf_set(before), sum = {0};
    for (int i = 0; i < KEYS / LANES; i++) {
        s[i] = vf_load(scores + i * LANES);
        if (bias && i * LANES < high)
            s[i] += vf_next(bias + i * LANES, high - i * LANES);
        s[i] = vf_select((key[i] >= low) & (key[i] < high), s[i], vf_set(LEAST_SCORE));
        top = vf_max(top, s[i]);
    }
    const float after = vf_most(top);
    for (int i = 0; i < KEYS / LANES; i++) {
        const vf weight = vf_select((key[i] >= low) & (key[i] < high), vf_exp(s[i] - after), vf_set(0));
        sum += weight;
        vf_store(scores + i * LANES, weight);
    }
    const float kept = before == after ? 1 : vf_exp(vf_set(before - after))[0];
    w->sums[query] = w->sums[query] * kept + vf_sum(sum);
    w->top[query] = after;
    w->kept[query] = kept;
}

static void attend_tile(const Job *job, const Work *w, const Block *b, int head, int from, int to,
                        const vi *key) {
    const int window = job->window;
    gather(job, w, head, from, to);
    const Product scores = {
        .a = w->q, .a_stride = job->head_dim, .b = w->keys, .b_stride = KEYS, .c = w->scores,
        .c_stride = KEYS, .rows = b->count, .depth = job->head_dim, .vectors = KEYS / LANES,
    };
    product(&scores);
    for (int i = 0; i < b->count; i++) {
        const int row = b->row + i;
        const int low = window < 0 ? 0 : most(0, row - window - from);
        const int high = window < 0 ? to - from : least(to - from, row + window + 1 - from);
        const float *bias = job->bias;
        if (bias)
            bias += head * (2 * job->longest - 1) + job->longest - 1 + from - row;
        soften(w, i, low, high, bias, key);
    }
    const Product values = {
        .a = w->scores, .a_stride = KEYS, .b = w->values, .b_stride = job->padded, .c = w->out,
        .c_stride = job->padded, .kept = w->kept, .rows = b->count, .depth = to - from,
        .vectors = job->padded / LANES,
    };
    product(&values);
}

static void attend(const Job *job, const Work *w, const Block *b, int head) {
    const int width = job->head_dim;
    const ptrdiff_t hidden = (ptrdiff_t)job->heads * width;
    vi key[KEYS / LANES];
    for (int i = 0; i < KEYS; i++)
        key[i / LANES][i % LANES] = i;
    for (int i = 0; i < b->count; i++) {
        const float *q = job->qkv + (b->row + i) * 3 * hidden + head * width;
        for (int k = 0; k < width; k++)
            w->q[i * width + k] = q[k] * job->scale;
        w->top[i] = LEAST_SCORE;
        w->sums[i] = 0;
    }
    int first = b->first, stop = b->stop;
    if (job->window >= 0) {
        first = most(first, b->row - job->window);
        stop = least(stop, b->row + b->count + job->window);
    }
    for (int from = first; from < stop; from += KEYS)
        attend_tile(job, w, b, head, from, least(stop, from + KEYS), key);
    for (int i = 0; i < b->count; i++) {
        float *out = job->out + (b->row + i) * hidden + head * width;
        for (int k = 0; k < width; k++)
            out[k] = w->out[i * job->padded + k] / w->sums[i];
    }
}

static void attend_block(void *context, int index) {
    Job *job = context;
    const size_t width = (size_t)job->head_dim, padded = (size_t)job->padded;
    const size_t queries = QUERIES * (width + KEYS + padded + 3), keys = KEYS * (width + padded);
    float *memory = calloc(queries + keys, sizeof(float));
    if (!memory) {
        job->failed = 1;
        return;
    }
    Work w = {.keys = memory};
    w.values = w.keys + KEYS * width;
    w.scores = w.values + KEYS * padded;
    w.out = w.scores + QUERIES * KEYS;
    w.q = w.out + QUERIES * padded;
    w.top = w.q + QUERIES * width;
    w.kept = w.top + QUERIES;
    w.sums = w.kept + QUERIES;
    attend(job, &w, job->blocks + index / job->heads, index % job->heads);
    free(memory);
}

/* Sequence i has rows starts[i] to starts[i + 1]; see Job. */
EXPORT int op_encoder_attention(const float *qkv, const float *bias, const int *starts,
                                int sequences, int heads, int head_dim, int longest, int window,
                                float scale, float *out) {
    const int rows = starts[sequences];
    Block *blocks = malloc(sizeof *blocks * (size_t)most(rows, 1));
    if (!blocks)
        return 1;
    int count = 0;
    for (int i = 0; i < sequences; i++)
        for (int row = starts[i]; row < starts[i + 1]; row += QUERIES)
            blocks[count++] = (Block){starts[i], starts[i + 1], row,
                                      least(QUERIES, starts[i + 1] - row)};
    Job job = {.qkv = qkv, .bias = bias, .out = out, .blocks = blocks, .heads = heads,
               .head_dim = head_dim, .padded = (head_dim + LANES - 1) / LANES * LANES,
               .longest = longest, .window = window, .scale = scale};
    parallel(count * heads, attend_block, &job);
    free(blocks);
    return job.failed;
}
