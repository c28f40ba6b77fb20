/* Activations as the products want them: quantized or not, in groups of rows. */
#include "matmul.h"
#include "scratch.h"

#include <float.h>

/* Where a row of a group goes. */
typedef struct {
    int8_t *codes;
    float *scales, *sums, *values;
    int width;
} Place;

typedef struct {
    const Matrix *matrix;
    const float *values;
    const int *from;
    int *starts; /* of each group; the last entry is the end */
    Input *input;
} Preparing;

/* A block to codes. A NaN or an infinity becomes the block's scale, and so shows. */
static void quantize_block(const float *x, int block, ptrdiff_t number, const Place *to) {
    vf most = vf_set(0), broken = vf_set(0);
    for (int i = 0; i < block; i += LANES) {
        vf v = vf_load(x + i);
        most = vf_max(vf_abs(v), most);
        broken = vf_fma(v, vf_set(0), broken);
    }
    const float scale = vf_most(most) / 127 + vf_sum(broken);
    const float inverse = scale > FLT_MIN ? 1 / scale : 0;
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

static void prepare_group(void *context, int index) {
    const Preparing *p = context;
    const Input *x = p->input;
    const int first = p->starts[index], width = p->starts[index + 1] - first;
    const int block = x->blocks ? x->inputs / x->blocks : 0;
    for (int r = 0; r < width; r++) {
        const float *row = p->values + (ptrdiff_t)(p->from ? p->from[first + r] : first + r) * x->inputs;
        const ptrdiff_t cells = (ptrdiff_t)first * x->inputs, blocks = (ptrdiff_t)first * x->blocks;
        const Place to = {
            (int8_t *)x->codes + cells + 4 * r,
            (float *)x->scales + blocks + r,
            (float *)x->sums + blocks + r,
            (float *)x->values + cells + r,
            width,
        };
        for (int i = 0; i < x->blocks; i++)
            quantize_block(row + i * block, block, i, &to);
        if (!x->blocks)
            for (int i = 0; i < x->inputs; i++)
                to.values[(ptrdiff_t)i * width] = row[i];
    }
}

void input_in_pairs(const Matrix *m, const float *values, int rows, float *pairs) {
    const int block = least(m->group, BLOCK);
    for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * m->inputs; i += block) {
        float *row = pairs + i + i / m->inputs * m->inputs, *rest = row + m->inputs;
        int8_t codes[BLOCK];
        float scale, sum;
        const Place to = {codes, &scale, &sum, 0, 1};
        memcpy(row, values + i, sizeof(float) * (size_t)block);
        quantize_block(row, block, 0, &to);
        for (int j = 0; j < block; j++)
            rest[j] = row[j] - scale * codes[j];
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
    if (!quantized && rows == 1 && !from) {
        x->values = values;
        return 0;
    }
    const size_t cells = (size_t)rows * m->inputs, floats = (size_t)rows * x->blocks;
    const size_t starts = sizeof(int) * ((size_t)rows + 1);
    x->memory = scratch((quantized ? cells + 8 * floats : 4 * cells) + starts);
    if (!x->memory)
        return 1;
    x->values = x->memory;
    x->scales = x->memory;
    x->sums = x->scales + floats;
    x->codes = (int8_t *)(x->sums + floats);
    char *end = (char *)x->memory + (quantized ? cells + 8 * floats : 4 * cells);
    Preparing p = {m, values, from, (int *)end, x};
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
