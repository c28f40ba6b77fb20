/* Activations as the products want them: quantized or not, in groups of rows. */
#include "matmul.h"
#include "scratch.h"

#include <float.h>
#include <limits.h>

/* Where a row of a group goes. */
typedef struct {
    int8_t *codes;
    float *scales, *sums, *values;
    Outlier *outliers;
    int width;
} Place;

typedef struct {
    const Matrix *matrix;
    const float *values;
    const int *from;
    int *starts; /* of each group; the last entry is the end */
    Input *input;
} Preparing;

/* The largest of a block; NaN if it has one, or an infinity. */
INLINE float most_of(const float *x, int block) {
    vf most = vf_set(0), broken = vf_set(0);
    for (int i = 0; i < block; i += LANES) {
        vf v = vf_load(x + i);
        most = vf_max(vf_abs(v), most);
        broken = vf_fma(v, vf_set(0), broken);
    }
    return vf_most(most) + vf_sum(broken);
}

/* A block to codes. A largest of NaN becomes the block's scale, and so shows. */
INLINE void quantize_block(const float *x, int block, float most, ptrdiff_t number, const Place *to) {
    const float scale = most / 127, inverse = scale > FLT_MIN ? 1 / scale : 0;
    const vi whole = vi_set(-(inverse > 0)); /* codes of NaN are any number */
    int8_t codes[BLOCK] ALIGNED;
    vi sum = vi_set(0);
    for (int i = 0; i < block; i += LANES) {
        vi code = vi_round(vf_load(x + i) * inverse) & whole;
        sum += code;
        vi_store8(codes + i, code);
    }
    int32_t total = 0;
    for (int i = 0; i < LANES; i++)
        total += sum[i];
    int8_t *out = to->codes + number * block * to->width;
    for (int i = 0; i < block; i += 4)
        memcpy(out + i * to->width, codes + i, 4);
    to->scales[number * to->width] = scale;
    to->sums[number * to->width] = scale * (float)total;
}

/* Puts a row's value of a column into its group's list. */
static void insert(Outlier *list, unsigned column, int row, float value) {
    while (list->column < column)
        list++;
    if (list->column > column) {
        const Outlier *last = list;
        while (last->column != UINT_MAX)
            last++;
        memmove(list + 1, list, sizeof *list * (size_t)(last + 1 - list));
        *list = (Outlier){.column = column};
    }
    list->values[row] = value;
}

/* rest = a block without its largest; gives its column there. */
static int without_largest(const float *x, int block, float most, float *rest) {
    int column = 0;
    memcpy(rest, x, sizeof(float) * (size_t)block);
    while (fabsf(x[column]) != most)
        column++;
    rest[column] = 0;
    return column;
}

/* A row to codes, and to its group's list of outliers. */
static void quantize_row(const float *row, int block, int blocks, int fine, int r, const Place *to) {
    float squares = 0;
    for (int i = 0; i < blocks; i++) {
        const float most = most_of(row + i * block, block);
        to->scales[i * to->width] = most;
        squares += most * most;
    }
    const float bound = fine ? squares / (float)blocks * APART : INFINITY;
    for (int i = 0; i < blocks; i++) {
        const float *x = row + i * block, most = to->scales[i * to->width];
        float rest[BLOCK] ALIGNED, less = most;
        if (most * most > bound) {
            const int column = without_largest(x, block, most, rest);
            less = most_of(rest, block);
            if (most * most - less * less > bound)
                insert(to->outliers, (unsigned)(i * block + column), r, x[column]);
            else
                less = most;
        }
        quantize_block(less == most ? x : rest, block, less, i, to);
    }
}

static void prepare_group(void *context, int index) {
    const Preparing *p = context;
    const Input *x = p->input;
    const int first = p->starts[index], width = p->starts[index + 1] - first;
    const int block = x->blocks ? x->inputs / x->blocks : 0;
    Outlier *outliers = (Outlier *)x->outliers + (ptrdiff_t)first * (x->apart + 1);
    if (x->blocks)
        outliers->column = UINT_MAX;
    for (int r = 0; r < width; r++) {
        const float *row = p->values + (ptrdiff_t)(p->from ? p->from[first + r] : first + r) * x->inputs;
        const ptrdiff_t cells = (ptrdiff_t)first * x->inputs, blocks = (ptrdiff_t)first * x->blocks;
        const Place to = {
            (int8_t *)x->codes + cells + 4 * r,
            (float *)x->scales + blocks + r,
            (float *)x->sums + blocks + r,
            (float *)x->values + cells + r,
            outliers,
            width,
        };
        if (x->blocks)
            quantize_row(row, block, x->blocks, x->apart, r, &to);
        else
            for (int i = 0; i < x->inputs; i++)
                to.values[(ptrdiff_t)i * width] = row[i];
    }
}

static int group_starts(const int *ends, int segments, int *starts) {
    int groups = 0, first = 0;
    for (int s = 0; s < segments; first = ends[s++])
        for (int row = first; row < ends[s]; row += GROUP)
            starts[groups++] = row;
    starts[groups] = first;
    return groups;
}

int input_ready(Input *x, const Matrix *m, const float *values, const int *from, const int *ends,
                int segments) {
    const int quantized = in_codes(m), rows = ends[segments - 1];
    *x = (Input){.inputs = m->inputs, .blocks = quantized ? m->inputs / least(m->group, BLOCK) : 0};
    x->apart = m->exact == FINE ? x->blocks / APART : 0;
    if (!quantized && rows == 1 && !from) {
        x->values = values;
        return 0;
    }
    const size_t cells = (size_t)rows * m->inputs, floats = (size_t)rows * x->blocks;
    const size_t lists = quantized ? (size_t)rows * (size_t)(x->apart + 1) : 0;
    const size_t bytes = quantized ? cells + 8 * floats + sizeof(Outlier) * lists : 4 * cells;
    x->memory = scratch(bytes + sizeof(int) * ((size_t)rows + 1));
    if (!x->memory)
        return 1;
    x->values = x->memory;
    x->scales = x->memory;
    x->sums = x->scales + floats;
    x->outliers = (Outlier *)(x->sums + floats);
    x->codes = (int8_t *)(x->outliers + lists);
    Preparing p = {m, values, from, (int *)((char *)x->memory + bytes), x};
    const int groups = group_starts(ends, segments, p.starts);
    if ((size_t)rows * m->inputs < 1 << 15)
        for (int i = 0; i < groups; i++)
            prepare_group(&p, i);
    else
        parallel(groups, prepare_group, &p);
    return 0;
}

void input_done(Input *x) {
    free(x->memory);
}
