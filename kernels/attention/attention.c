/* Attention of a ragged step: heads are normed and turned, keys and values appended to the pages,
   then each row attends to its own past.

   A row's arithmetic goes page by page in the order of the sequence, a score is one chain of
   products over the dimensions, a result one chain over the tokens that the row may see. Nothing
   of that depends on which rows are computed together, so neither do the bits. */
#include "attention_pages.h"
#include "export.h"
#include "threads.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Consecutive rows of one sequence. */
typedef struct {
    int32_t row, count;
} Block;

typedef struct {
    const Attention *a;
    const Block *blocks;
    int count, parts, part; /* blocks; parts of a group of heads; heads of a part */
    _Atomic int failed;
} Job;

/* What one task works on. Query i * part + j is head `head` + j of row `row` + i. */
typedef struct {
    const Attention *a;
    int row, count, head, part, kv_head;
    int position; /* of the first row */
    int padded;   /* value width, in whole vectors */
    const int32_t *table;
    int64_t next;  /* page after the one in hand */
    float *q;      /* [queries][key width in whole groups] */
    float *scores; /* [queries][PAGE] */
    float *out;    /* [queries][padded] */
    float *top;    /* [queries]: the largest score so far */
    float *kept;   /* [queries]: what a page's larger scores leave of what came before */
    float *sums;   /* [queries][LANES] */
    float *keys;   /* [key width][PAGE] */
    float *values; /* [PAGE][padded] */
} Work;

enum { QUERIES = 64, APPENDED = 16 }; /* queries a task works on; rows that it appends */
#define LEAST_SCORE (-3.0e38f)        /* finite, so that differences are never NaN */

/* Rows that share each load of the second factor: as many sums as registers allow. */
enum { ROWS = LANES == 8 ? 4 : 8, WIDE = 2 };

/* c[rows][columns] = c * kept + a[rows][depth] b[depth][columns], in the order of depth. */
typedef struct {
    const float *a;
    const void *b;
    float *c;
    const float *kept; /* [rows], or null where c begins at 0 */
    ptrdiff_t next;    /* from b to what is wanted from memory after it, in bytes; or 0 */
    ptrdiff_t a_stride, b_stride, c_stride;
    int rows, depth, vectors; /* columns in vectors */
} Product;

INLINE void product_tile(const Product *p, int row, int vector, int rows, int wide, int type,
                         int fetch) {
    vf sums[ROWS][WIDE] = {0};
    const float *a = p->a + row * p->a_stride;
    float *c = p->c + row * p->c_stride + vector * LANES;
    if (p->kept)
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int j = 0; j < wide; j++)
                sums[i][j] = vf_load(c + i * p->c_stride + j * LANES) * p->kept[row + i];
    for (int k = 0; k < p->depth; k++) {
        vf b[WIDE];
#pragma GCC unroll 2
        for (int j = 0; j < wide; j++)
            b[j] = vf_load_as(p->b, k * p->b_stride + (vector + j) * LANES, type);
        if (fetch)
            __builtin_prefetch((const char *)p->b + p->next +
                               (k * p->b_stride + vector * LANES) * (type == F16 ? 2 : 4));
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            const vf x = vf_set(a[i * p->a_stride + k]);
#pragma GCC unroll 2
            for (int j = 0; j < wide; j++)
                sums[i][j] = vf_fma(x, b[j], sums[i][j]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < wide; j++)
            vf_store(c + i * p->c_stride + j * LANES, sums[i][j]);
}

INLINE void product_rows(const Product *p, int vector, int wide, int type, int fetch) {
    for (int row = 0; row < p->rows; row += ROWS)
        switch (least(ROWS, p->rows - row)) {
#define CASE(n) \
    case n: product_tile(p, row, vector, n, wide, type, fetch); break;
            CASE(1) CASE(2) CASE(3) CASE(4)
#if LANES != 8
            CASE(5) CASE(6) CASE(7) CASE(8)
#endif
#undef CASE
        }
}

/* Not inlined, so that each set of constants is compiled once. */
#define PRODUCT(name, wide, type, fetch)                                       \
    static __attribute__((noinline)) void name(const Product *p, int vector) { \
        product_rows(p, vector, wide, type, fetch);                            \
    }
PRODUCT(product_f32, WIDE, F32, 0)
PRODUCT(product_f32_fetch, WIDE, F32, 1)
PRODUCT(product_f16_fetch, WIDE, F16, 1)
PRODUCT(product_f32_last, 1, F32, 0)
PRODUCT(product_f16_last, 1, F16, 0)

static void product(const Product *p, int type) {
    int vector = 0;
    for (; vector + WIDE <= p->vectors; vector += WIDE)
        (type == F16   ? product_f16_fetch
         : p->next != 0 ? product_f32_fetch
                        : product_f32)(p, vector);
    for (; vector < p->vectors; vector++)
        (type == F16 ? product_f16_last : product_f32_last)(p, vector);
}

/* e^x of x <= 0, to 2 units in the last place; below -87.3 it stays at e^-87.3. */
INLINE vf exp_down(vf v) {
    const vf x = vf_max(vf_set(-87.33654f), v);
    const vi whole = vi_round(x * 1.44269504f);
    return vf_exp_part(x, vf_of(whole)) * vf_bits((whole + 127) << 23);
}

INLINE vf capped(vf s, float cap) {
    return cap * (1.0f - 2.0f / (vf_exp(s * (2.0f / cap)) + 1.0f));
}

/* A head in float32 with its norm and its position, padded with zeros to whole groups. The norm
   is of a whole head, or of a latent's values alone. */
static void prepare(const Attention *a, const float *x, const float *norm, int row, float scale,
                    float *restrict out) {
    const int width = a->keys.width, padded = round_up(width, GROUP), from = a->turned_from;
    memcpy(out, x, sizeof(float) * (size_t)width);
    memset(out + width, 0, sizeof(float) * (size_t)(padded - width));
    if (norm) {
        const int normed = a->v ? width : a->values.width;
        vf squares = {0};
        for (int i = 0; i < normed; i += LANES) {
            const vf x = vf_next(out + i, normed - i);
            squares = vf_fma(x, x, squares);
        }
        const float size = 1 / sqrtf(vf_sum(squares) / (float)normed + a->eps);
        for (int i = 0; i < normed; i++)
            out[i] = out[i] * size * norm[i];
    }
    const float *cos = a->cos + (ptrdiff_t)row * a->turned;
    const float *sin = a->sin + (ptrdiff_t)row * a->turned;
    const int apart = a->interleaved ? 1 : a->turned, step = a->interleaved ? 2 : 1;
    for (int i = 0; i < a->turned; i++) {
        float *one = out + from + i * step, *other = one + apart;
        const float x0 = *one, x1 = *other;
        *one = x0 * cos[i] - x1 * sin[i];
        *other = x1 * cos[i] + x0 * sin[i];
    }
    for (int i = 0; i < width; i++)
        out[i] *= scale;
}

static void append_rows(void *context, int index) {
    Job *job = context;
    const Attention *a = job->a;
    const int padded = round_up(most(a->keys.width, a->values.width), GROUP);
    float *head = calloc((size_t)padded, sizeof(float));
    if (!head) {
        job->failed = 1;
        return;
    }
    const int last = least(a->rows, (index + 1) * APPENDED);
    for (int row = index * APPENDED; row < last; row++)
        for (int h = 0; h < a->kv_heads; h++) {
            const ptrdiff_t start = (ptrdiff_t)row * a->kv_stride;
            prepare(a, a->k + start + h * a->keys.width, a->k_norm, row, 1, head);
            put(&a->keys, a->slots[row], h, head);
            if (!a->v)
                continue;
            const int width = a->values.width;
            memcpy(head, a->v + start + h * width, sizeof(float) * (size_t)width);
            put(&a->values, a->slots[row], h, head);
        }
    free(head);
}

/* Scores of tokens `from` to `to` of a page become weights, all others 0; what is to be kept of
   the pages before follows from the new largest score. */
INLINE void soften(Work *w, int query, int from, int to, const vi *token) {
    float *scores = w->scores + query * PAGE, *sums = w->sums + query * LANES;
    const float before = w->top[query], cap = w->a->softcap;
    vf s[PAGE / LANES], top = vf_set(before), sum = {0};
    for (int i = 0; i < PAGE / LANES; i++) {
        s[i] = vf_load(scores + i * LANES);
        if (cap != 0)
            s[i] = capped(s[i], cap);
        if (from > 0 || to < PAGE)
            s[i] = vf_select((token[i] >= from) & (token[i] < to), s[i], vf_set(LEAST_SCORE));
        top = vf_max(top, s[i]);
    }
    const float after = vf_most(top);
    for (int i = 0; i < PAGE / LANES; i++) {
        vf weight = exp_down(s[i] - after);
        if (from > 0 || to < PAGE)
            weight = vf_select((token[i] >= from) & (token[i] < to), weight, vf_set(0));
        sum += weight;
        vf_store(scores + i * LANES, weight);
    }
    const float kept = before == after ? 1 : exp_down(vf_set(before - after))[0];
    vf_store(sums, vf_fma(vf_load(sums), vf_set(kept), sum));
    w->top[query] = after;
    w->kept[query] = kept;
}

/* The tokens of a page that a row sees: from the first to before the second. */
INLINE int first_seen(const Work *w, int i, int page) {
    const int window = w->a->window, position = w->position + i;
    return window ? most(0, position + 1 - window - page * PAGE) : 0;
}
INLINE int end_seen(const Work *w, int i, int page) {
    return least(PAGE, w->position + i + 1 - page * PAGE);
}

/* Adds the values of tokens `from` to `to`, weighted, to the results of rows i to end. */
static void weigh(const Work *w, const void *values, int type, int stride, ptrdiff_t next, int i,
                  int end, int from, int to) {
    const int query = i * w->part;
    const char *b = (const char *)values + (ptrdiff_t)from * stride * (type == F16 ? 2 : 4);
    const Product p = {
        .a = w->scores + query * PAGE + from, .a_stride = PAGE, .b = b, .b_stride = stride,
        .c = w->out + query * w->padded, .c_stride = w->padded, .kept = w->kept + query,
        .rows = (end - i) * w->part, .depth = to - from, .vectors = w->padded / LANES,
        .next = next,
    };
    product(&p, type);
}

/* Rows `start` to `stop` score a page's keys, which are left widened only where that pays. */
static void score(const Work *w, int64_t page, int start, int stop) {
    const Attention *a = w->a;
    const int queries = (stop - start) * w->part, format = a->keys.format;
    const int padded = round_up(a->keys.width, GROUP);
    const int few = queries <= ROWS;
    const int direct = a->values.codes && (format == F32 || (format == F16 && few));
    const void *keys = w->keys;
    ptrdiff_t next = 0;
    if (direct) {
        keys = page_codes(&a->keys, page, w->kv_head);
        next = few ? page_codes(&a->keys, w->next, w->kv_head) - (const char *)keys : 0;
    } else {
        widen_keys(&a->keys, page, w->next, w->kv_head, w->keys);
    }
    const Product p = {
        .a = w->q + start * w->part * padded, .a_stride = padded, .b = keys, .b_stride = PAGE,
        .c = w->scores + start * w->part * PAGE, .c_stride = PAGE,
        .rows = queries, .depth = a->keys.width, .vectors = PAGE / LANES,
        .next = next,
    };
    product(&p, direct ? format : F32);
}

/* All rows of the block that see anything of a page attend to it. */
static void attend_page(Work *w, int index, const vi *token) {
    const Attention *a = w->a;
    const int64_t page = w->table[index];
    int start = 0, stop = w->count;
    while (start < stop && end_seen(w, start, index) <= 0)
        start++;
    while (stop > start && first_seen(w, stop - 1, index) >= PAGE)
        stop--;
    if (start == stop)
        return;
    score(w, page, start, stop);
    for (int i = start; i < stop; i++)
        for (int j = 0; j < w->part; j++)
            soften(w, i * w->part + j, first_seen(w, i, index), end_seen(w, i, index), token);
    const int width = a->value_width, format = a->values.format;
    const int few = (stop - start) * w->part <= ROWS;
    const void *values = w->values;
    ptrdiff_t next = 0;
    int type = F32, stride = w->padded;
    if (!a->values.codes) {
        values_of_keys(w->keys, width, w->padded, w->values);
    } else if (width % LANES == 0 &&
               (format == F32 || (format == F16 && few))) {
        values = page_codes(&a->values, page, w->kv_head);
        type = format;
        stride = width;
        next = few ? page_codes(&a->values, w->next, w->kv_head) - (const char *)values : 0;
    } else {
        widen_values(&a->values, page, w->next, w->kv_head, w->padded, w->values);
    }
    for (int i = start; i < stop;) {
        const int from = first_seen(w, i, index), to = end_seen(w, i, index);
        int end = i + 1;
        while (end < stop && first_seen(w, end, index) == from && end_seen(w, end, index) == to)
            end++;
        weigh(w, values, type, stride, next, i, end, from, to);
        i = end;
    }
}

static void attend(Work *w) {
    const Attention *a = w->a;
    const int padded = round_up(a->keys.width, GROUP), last = (w->position + w->count - 1) / PAGE;
    const int first = a->window ? most(0, w->position + 1 - a->window) / PAGE : 0;
    vi token[PAGE / LANES];
    for (int i = 0; i < PAGE; i++)
        token[i / LANES][i % LANES] = i;
    for (int i = 0; i < w->count; i++)
        for (int j = 0; j < w->part; j++) {
            const int query = i * w->part + j, row = w->row + i, head = w->head + j;
            prepare(a, a->q + (ptrdiff_t)row * a->q_stride + (ptrdiff_t)head * a->keys.width,
                    a->q_norm, row, a->scale, w->q + query * padded);
            w->top[query] = a->sinks ? a->sinks[head] : LEAST_SCORE;
            w->sums[query * LANES] = a->sinks ? 1 : 0;
        }
    for (int index = first; index <= last && w->position + w->count > 0; index++) {
        w->next = index < last ? w->table[index + 1] : w->table[index];
        attend_page(w, index, token);
    }
    for (int query = 0; query < w->count * w->part; query++) {
        const int row = w->row + query / w->part, head = w->head + query % w->part;
        const float sum = vf_sum(vf_load(w->sums + query * LANES));
        float *out = a->out + ((ptrdiff_t)row * a->heads + head) * a->value_width;
        for (int i = 0; i < a->value_width; i++)
            out[i] = sum == 0 ? 0 : w->out[query * w->padded + i] / sum;
    }
}

static void attend_block(void *context, int index) {
    Job *job = context;
    const Attention *a = job->a;
    const int group = a->heads / a->kv_heads, part = index % job->parts;
    const Block block = job->blocks[job->count - 1 - index / job->parts / a->kv_heads];
    const int kv_head = index / job->parts % a->kv_heads, first = part * job->part;
    Work w = {
        .a = a, .row = block.row, .count = block.count, .kv_head = kv_head,
        .head = kv_head * group + first, .part = least(job->part, group - first),
        .position = a->positions[block.row], .padded = round_up(a->value_width, LANES),
        .table = a->tables + (ptrdiff_t)a->owners[block.row] * a->table_width,
    };
    const size_t queries = (size_t)(w.count * w.part), padded = (size_t)w.padded;
    const size_t width = (size_t)round_up(a->keys.width, GROUP);
    const size_t each = width + PAGE + padded + 2 + LANES;
    const size_t bytes = (queries * each + (width + padded) * PAGE) * sizeof(float);
    float *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!scratch) {
        job->failed = 1;
        return;
    }
    w.keys = scratch;
    w.values = w.keys + width * PAGE;
    w.scores = w.values + padded * PAGE;
    w.q = w.scores + queries * PAGE;
    w.sums = w.q + queries * width;
    w.out = w.sums + queries * LANES;
    w.top = w.out + queries * padded;
    memset(w.sums, 0, queries * (LANES + padded) * sizeof(float));
    w.kept = w.top + queries;
    attend(&w);
    free(scratch);
}

/* Cuts the step into blocks of at most `rows` consecutive rows of a sequence. */
static int cut(const Attention *a, int rows, Block *blocks) {
    int count = 0;
    for (int row = 0; row < a->rows; row++) {
        Block *last = blocks + count - 1;
        if (count && last->count < rows && a->owners[row] == a->owners[row - 1] &&
            a->positions[row] == a->positions[row - 1] + 1)
            last->count++;
        else
            blocks[count++] = (Block){row, 1};
    }
    return count;
}

EXPORT int op_attention(const Attention *a) {
    Job job = {.a = a};
    const int group = a->heads / a->kv_heads;
    Block *blocks = malloc(sizeof *blocks * (size_t)most(a->rows, 1));
    if (!blocks)
        return 1;
    parallel((a->rows + APPENDED - 1) / APPENDED, append_rows, &job);
    job.part = least(group, QUERIES);
    job.blocks = blocks;
    job.count = cut(a, most(1, QUERIES / job.part), blocks);
    /* Few key heads, as in latent attention, would leave threads idle. */
    while (job.part > ROWS && job.count * a->kv_heads * (group / job.part) < 2 * pool_threads())
        job.part /= 2;
    job.parts = (group + job.part - 1) / job.part;
    if (!job.failed)
        parallel(job.count * a->kv_heads * job.parts, attend_block, &job);
    free(blocks);
    return job.failed;
}
ENTRY(op_attention, w[0].p)

/* For the caller to check its own description against. */
EXPORT int attention_size(void) {
    return sizeof(Attention);
}
