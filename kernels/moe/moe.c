/* A mixture of experts over a batch: pairs of token and expert, sorted by expert, so that an
   expert's weights are read once for all its tokens; their results are added in the token's order. */
#include "activation.h"
#include "matmul.h"
#include "scratch.h"

/* The same fields in the same order as in moe.py. Row e * n + i of a matrix with n rows an expert is
   row i of expert e. */
typedef struct {
    const Matrix *gate, *up, *down; /* without a gate it is null */
    const float *gate_bias, *up_bias, *down_bias; /* (experts, rows) or null */
    int32_t experts, hidden, width, activation;
    float limit;
} Experts;

/* Tokens of one expert: pairs `first` to `end` in the sorted order. */
typedef struct {
    int expert, first, end, task; /* its first task */
} Segment;

typedef struct {
    const Experts *experts;
    const int *tokens; /* of each pair, sorted */
    Segment *segments;
    int count, each; /* segments; tiles of a task */
    int rows;        /* of a matrix that an expert has */
    Input input, gate_input; /* the second for a gate that takes other activations than up */
    const Input *gate_used; /* one of the two */
    float *inner;  /* (pairs, width): gate and up, joined; or what `activated` makes of up */
    float *outer;  /* (pairs, hidden) */
} Pass;

/* order: (pairs,), pair numbers by expert, within one as they were; offsets: (experts + 1,). 1 where
   memory is short. */
static int sort_by_expert(const int32_t *indices, int pairs, int experts, int32_t *order,
                          int32_t *offsets) {
    int32_t *next = calloc((size_t)experts + 1, sizeof *next);
    if (!next)
        return 1;
    for (int i = 0; i < pairs; i++)
        next[indices[i] + 1]++;
    for (int i = 0; i < experts; i++)
        next[i + 1] += next[i];
    memcpy(offsets, next, sizeof *next * ((size_t)experts + 1));
    for (int i = 0; i < pairs; i++)
        order[next[indices[i]]++] = i;
    free(next);
    return 0;
}

/* Pairs in the order of their experts, and of their tokens within; one segment an expert, or, where
   they are not to be sorted, one a pair. Gives the number of segments. */
static int sort_pairs(const int32_t *chosen, int rows, int each, int experts, int sorted,
                      int *tokens, int *places, int *ends, Segment *segments) {
    const int pairs = rows * each;
    int count = 0;
    if (!sorted) {
        for (int i = 0; i < pairs; i++) {
            tokens[i] = i / each;
            places[i] = i;
            ends[i] = i + 1;
            segments[i] = (Segment){chosen[i], i, i + 1, 0};
        }
        return pairs;
    }
    int32_t *order = malloc(sizeof *order * ((size_t)pairs + (size_t)experts + 1));
    if (!order)
        return -1;
    int32_t *offsets = order + pairs;
    if (sort_by_expert(chosen, pairs, experts, order, offsets)) {
        free(order);
        return -1;
    }
    for (int e = 0; e < experts; e++)
        if (offsets[e] < offsets[e + 1]) {
            segments[count] = (Segment){e, offsets[e], offsets[e + 1], 0};
            ends[count++] = offsets[e + 1];
        }
    for (int place = 0; place < pairs; place++) {
        tokens[place] = order[place] / each;
        places[order[place]] = place;
    }
    free(order);
    return count;
}

/* Numbers the tasks of a pass over `rows` rows of each expert; gives how many there are. */
static int share(Pass *p, int rows) {
    const int tiles = (rows + TILE - 1) / TILE, wanted = pool_threads() * 8;
    int tasks = 0;
    p->rows = rows;
    /* an expert may have a tenth of all tokens, so its rows are shared out too */
    p->each = p->count >= wanted ? 1 + tiles / 4 : 1 + (tiles * p->count - 1) / wanted;
    p->each = least(p->each, tiles);
    for (int s = 0; s < p->count; s++) {
        const int blocks = (p->segments[s].end - p->segments[s].first + ROWS - 1) / ROWS;
        p->segments[s].task = tasks;
        tasks += blocks * ((tiles + p->each - 1) / p->each);
    }
    return tasks;
}

typedef struct {
    int expert, row, count; /* pairs `row` to `row + count` */
    int first, last;        /* tiles */
} Work;

static Work work_of(const Pass *p, int task) {
    int low = 0, high = p->count;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (p->segments[middle].task <= task)
            low = middle;
        else
            high = middle;
    }
    const Segment *s = &p->segments[low];
    const int tiles = (p->rows + TILE - 1) / TILE, across = (tiles + p->each - 1) / p->each;
    const int at = task - s->task, row = s->first + at / across * ROWS;
    const int first = at % across * p->each;
    return (Work){s->expert, row, least(ROWS, s->end - row), first, least(tiles, first + p->each)};
}

INLINE vf bias_of(const float *bias, int expert, int rows, int column) {
    const int held = least(LANES, rows - column);
    if (!bias || held <= 0)
        return vf_set(0);
    return vf_next(bias + (ptrdiff_t)expert * rows + column, held);
}

INLINE void put(float *out, int rows, int column, vf value) {
    if (column < rows)
        vf_put(out + column, value, rows - column);
}

static void inner_task(void *context, int task) {
    const Pass *p = context;
    const Experts *e = p->experts;
    const Work w = work_of(p, task);
    vf gate[ROWS * VECTORS], up[ROWS * VECTORS];
    for (int tile = w.first; tile < w.last; tile++) {
        const int column = tile * TILE, row = w.expert * e->width + column;
        product(e->gate, row, p->gate_used, w.row, w.count, gate);
        product(e->up, row, &p->input, w.row, w.count, up);
        for (int v = 0; v < VECTORS; v++) {
            const int at = column + v * LANES;
            const vf gate_bias = bias_of(e->gate_bias, w.expert, e->width, at);
            const vf up_bias = bias_of(e->up_bias, w.expert, e->width, at);
            for (int r = 0; r < w.count; r++)
                put(p->inner + (ptrdiff_t)(w.row + r) * e->width, e->width, at,
                    gated(gate[r * VECTORS + v] + gate_bias, up[r * VECTORS + v] + up_bias,
                          e->activation, e->limit));
        }
    }
}

/* Experts without a gate. */
static void plain_task(void *context, int task) {
    const Pass *p = context;
    const Experts *e = p->experts;
    const Work w = work_of(p, task);
    vf up[ROWS * VECTORS];
    for (int tile = w.first; tile < w.last; tile++) {
        const int column = tile * TILE;
        product(e->up, w.expert * e->width + column, &p->input, w.row, w.count, up);
        for (int v = 0; v < VECTORS; v++) {
            const int at = column + v * LANES;
            const vf bias = bias_of(e->up_bias, w.expert, e->width, at);
            for (int r = 0; r < w.count; r++)
                put(p->inner + (ptrdiff_t)(w.row + r) * e->width, e->width, at,
                    activated(up[r * VECTORS + v] + bias, e->activation));
        }
    }
}

static void outer_task(void *context, int task) {
    const Pass *p = context;
    const Experts *e = p->experts;
    const Work w = work_of(p, task);
    vf sums[ROWS * VECTORS];
    for (int tile = w.first; tile < w.last; tile++) {
        const int column = tile * TILE;
        product(e->down, w.expert * e->hidden + column, &p->input, w.row, w.count, sums);
        for (int v = 0; v < VECTORS; v++) {
            const int at = column + v * LANES;
            const vf bias = bias_of(e->down_bias, w.expert, e->hidden, at);
            for (int r = 0; r < w.count; r++)
                put(p->outer + (ptrdiff_t)(w.row + r) * e->hidden, e->hidden, at,
                    sums[r * VECTORS + v] + bias);
        }
    }
}

typedef struct {
    const float *outer, *weights, *residual;
    const int *places;
    float *out;
    int hidden, each;
} Combining;

static void combine_row(void *context, int row) {
    const Combining *c = context;
    float *out = c->out + (ptrdiff_t)row * c->hidden;
    for (int at = 0; at < c->hidden; at += LANES) {
        const int held = least(LANES, c->hidden - at);
        vf sum = {0};
        for (int i = row * c->each; i < (row + 1) * c->each; i++) {
            const float *part = c->outer + (ptrdiff_t)c->places[i] * c->hidden + at;
            sum = vf_fma(vf_next(part, held), vf_set(c->weights[i]), sum);
        }
        if (c->residual)
            sum += vf_next(c->residual + (ptrdiff_t)row * c->hidden + at, held);
        vf_put(out + at, sum, held);
    }
}

/* Whether both matrices take activations of one kind: floats, or codes in blocks of one size, with
   outliers apart or not. */
static int alike(const Matrix *a, const Matrix *b) {
    return in_codes(a) == in_codes(b) &&
           (!in_codes(a) || (least(a->group, BLOCK) == least(b->group, BLOCK) && a->exact == b->exact));
}

static int inner_pass(Pass *p, const float *x, const int *ends) {
    const Experts *e = p->experts;
    const int separate = e->gate && !alike(e->gate, e->up);
    p->gate_used = separate ? &p->gate_input : &p->input;
    if (input_ready(&p->input, e->up, x, p->tokens, ends, p->count))
        return 1;
    const int failed =
        separate && input_ready(&p->gate_input, e->gate, x, p->tokens, ends, p->count);
    if (!failed)
        parallel(share(p, e->width), e->gate ? inner_task : plain_task, p);
    input_done(&p->input);
    input_done(&p->gate_input);
    return failed;
}

static int both_passes(Pass *p, const float *x, const int *ends) {
    if (inner_pass(p, x, ends))
        return 1;
    if (input_ready(&p->input, p->experts->down, p->inner, 0, ends, p->count))
        return 1;
    parallel(share(p, p->experts->hidden), outer_task, p);
    input_done(&p->input);
    return 0;
}

/* x: (rows, hidden); chosen and weights: (rows, each), experts and their shares; residual: (rows,
   hidden) or null; out: (rows, hidden). */
EXPORT int op_moe(const Experts *experts, const float *x, int rows, const int32_t *chosen,
                  const float *weights, int each, const float *residual, int sorted, float *out) {
    const size_t pairs = (size_t)rows * each;
    const size_t floats = pairs * (size_t)(experts->hidden + experts->width);
    char *memory = scratch(4 * floats + pairs * (3 * sizeof(int) + sizeof(Segment)));
    if (!memory)
        return 1;
    Pass p = {.experts = experts, .inner = (float *)memory};
    p.outer = p.inner + pairs * (size_t)experts->width;
    p.segments = (Segment *)(memory + 4 * floats);
    int *tokens = (int *)(p.segments + pairs), *places = tokens + pairs, *ends = places + pairs;
    p.tokens = tokens;
    p.count = sort_pairs(chosen, rows, each, experts->experts, sorted, tokens, places, ends,
                         p.segments);
    const int failed = p.count < 0 || both_passes(&p, x, ends);
    Combining c = {p.outer, weights, residual, places, out, experts->hidden, each};
    if (!failed)
        parallel(rows, combine_row, &c);
    free(memory);
    return failed;
}
ENTRY(op_moe, w[0].p, w[1].p, w[2].i, w[3].p, w[4].p, w[5].i, w[6].p, w[7].i, w[8].p)
