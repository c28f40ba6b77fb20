/* The product in integers or in floats; an element's sum is made in one order, whoever's it is. */
#include "matmul.h"

#include <limits.h>

/* As a call with a constant for every number of rows, so that the sums stay in registers. */
#define UP_TO_2(X) X(1) X(2)
#define UP_TO_4(X) UP_TO_2(X) X(3) X(4)
#define UP_TO_6(X) UP_TO_4(X) X(5) X(6)
#define UP_TO_8(X) UP_TO_6(X) X(7) X(8)
#define UP_TO_12(X) UP_TO_8(X) X(9) X(10) X(11) X(12)
#if LANES == 16
#define UP_TO_GROUP UP_TO_12
#define UP_TO_PART UP_TO_6
#elif LANES == 4
#define UP_TO_GROUP UP_TO_8
#define UP_TO_PART UP_TO_4
#else
#define UP_TO_GROUP UP_TO_4
#define UP_TO_PART UP_TO_2
#endif

typedef struct {
    const int8_t *codes;
    const float *scales, *sums, *values;
    const Outlier *outliers;
    int width; /* rows that lie together */
    int part;  /* the first of them that is meant */
} Rows;

INLINE Rows rows_of(const Input *x, int first, int width, int part) {
    const ptrdiff_t blocks = (ptrdiff_t)first * x->blocks + part;
    return (Rows){
        x->codes + (ptrdiff_t)first * x->inputs + 4 * part,
        x->scales + blocks,
        x->sums + blocks,
        x->values + (ptrdiff_t)first * x->inputs + part,
        x->outliers + (ptrdiff_t)first * (x->apart + 1),
        width,
        part,
    };
}

/* total += the codes' dot product, times both scales, + the bias times the activations' sum. */
INLINE vf scaled(vi dot, vf scale, vf bias, float x_scale, float x_sum, vf total) {
    total = vf_fma(vf_of(dot), scale * x_scale, total);
    return vf_fma(bias, vf_set(x_sum), total);
}

INLINE vi dot(vi sum, vi code, const int8_t *four, int kind) {
    int32_t x;
    memcpy(&x, four, sizeof x);
    return is_wide(kind) ? dot4(sum, code, vi_set(x)) : dot4_small(sum, code, vi_set(x));
}

/* How many inputs are multiplied from `start` on before the outliers among them are. */
INLINE int depth_at(const Matrix *m, int start) {
    const int left = m->inputs - start;
    return left <= BYTES_DEPTH + TAIL ? left : BYTES_DEPTH;
}

/* What a column's codes stand for, which are one byte of each lane. */
INLINE vf weight_of(vi codes, unsigned column, vf scale, vf bias) {
    return vf_fma(vf_of(vi_shift(codes, (int)(column % 4 * 8)) & 255), scale, bias);
}

/* Codes whose groups are half a run: the same kinds, from here on. */
enum { HALVES = 10 };

/* A panel whose codes are multiplied as they are unpacked. */
INLINE void multiply_panel(const Matrix *m, int row, Rows x, int rows, int of, vf *sums) {
    const vi_any *words = words_of(m, row, 0, m->bits), *const all = words;
    const int shift = __builtin_ctz((unsigned)m->group);
    const int kind = of % HALVES, halves = of < HALVES ? 1 : 2, part = RUN / halves;
    const int bits = bits_in(kind), groups = m->inputs / m->group;
    const int runs = halves == 2 ? 1 : least(m->group, BLOCK) / part;
    const int blocks = halves == 2 ? 1 : m->group / part / runs;
    vf total[GROUP] = {0}, scales[ALL_GROUPS], biases[ALL_GROUPS];
    const int plain = x.outliers->column == UINT_MAX;
    for (int first = 0, count; first < groups; first += count) {
        count = plain ? least(MAX_GROUPS, groups - first) : depth_at(m, first << shift) >> shift;
        panel_scales(m, row, first, count, scales, biases);
        for (int i = 0; i < count * blocks; i += halves)
#pragma GCC unroll 2
            for (int half = 0; half < halves; half++) {
                const int group = blocks == 1 ? i + half : i / 2;
                vi dots[GROUP] = {0};
                for (int run = 0; run < runs; run++) {
                    for (int word = 0; word < bits && half == 0; word++)
                        __builtin_prefetch(words + word + AHEAD, 0, 2);
                    for (int j = 0; j < part / 4; j++, x.codes += 4 * x.width) {
                        const vi code = code_of(words, kind, half * part / 4 + j);
                        for (int r = 0; r < rows; r++)
                            dots[r] = dot(dots[r], code, x.codes + 4 * r, kind);
                    }
                    words += half == halves - 1 ? bits : 0;
                }
                for (int r = 0; r < rows; r++)
                    total[r] = scaled(dots[r], scales[group], biases[group], x.scales[r],
                                      x.sums[r], total[r]);
                x.scales += x.width;
                x.sums += x.width;
            }
        const unsigned end = (unsigned)((first + count) << shift);
        for (; x.outliers->column < end; x.outliers++) {
            const unsigned column = x.outliers->column;
            const int group = (int)(column >> shift) - first;
            const vi_any *run = all + column / RUN * (unsigned)bits;
            const vi codes = code_of(run, kind, column % RUN / 4);
            const vf weight = weight_of(codes, column, scales[group], biases[group]);
            for (int r = 0; r < rows; r++)
                total[r] = vf_fma(weight, vf_set(x.outliers->values[r]), total[r]);
        }
    }
    for (int r = 0; r < rows; r++)
        sums[r * VECTORS] = total[r];
}

/* The same of a dense matrix. */
INLINE void multiply_dense(const Matrix *m, int row, Rows x, int rows, int type, vf *sums) {
    const vi_any *words = (const vi_any *)((const char *)m->weight + row * row_bytes(m));
    const int each = 4 / width_of(type);
    for (int start = 0; start < m->inputs; start += FLOATS_DEPTH) {
        vf total[GROUP] = {0};
        for (int i = start; i < least(start + FLOATS_DEPTH, m->inputs); i += each, words++) {
            __builtin_prefetch(words + AHEAD, 0, 2);
            for (int j = 0; j < each; j++, x.values += x.width) {
                const vf value = value_of(words, j, type);
                for (int r = 0; r < rows; r++)
                    total[r] = vf_fma(value, vf_set(x.values[r]), total[r]);
            }
        }
        for (int r = 0; r < rows; r++)
            sums[r * VECTORS] = sums[r * VECTORS] + total[r];
    }
}

/* A tile's codes, unpacked before; adds to the sums. */
INLINE void multiply_codes(const Matrix *m, Rows x, int rows, int start, int depth, int kind,
                           const vi *codes, const vf *scales, const vf *biases, vf *sums) {
    const int block = least(m->group, BLOCK), blocks = m->group / block;
    vf total[PART][VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++)
            total[r][v] = sums[r * VECTORS + v];
    x.codes += (ptrdiff_t)start * x.width;
    x.scales += start / block * (ptrdiff_t)x.width;
    x.sums += start / block * (ptrdiff_t)x.width;
    const vi *tile = codes;
    const int shift = __builtin_ctz((unsigned)m->group);
    while (x.outliers->column < (unsigned)start)
        x.outliers++;
    for (int i = 0; i < depth / block; i++, x.scales += x.width, x.sums += x.width) {
        vi dots[PART][VECTORS] = {0};
        for (int j = 0; j < block / 4; j++, codes += VECTORS, x.codes += 4 * x.width)
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < VECTORS; v++)
                    dots[r][v] = dot(dots[r][v], codes[v], x.codes + 4 * r, kind);
        const int group = (blocks == 1 ? i : i / 2) * VECTORS;
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++)
                total[r][v] = scaled(dots[r][v], scales[group + v], biases[group + v],
                                     x.scales[r], x.sums[r], total[r][v]);
    }
    for (; x.outliers->column < (unsigned)(start + depth); x.outliers++) {
        const unsigned column = x.outliers->column - (unsigned)start;
        const int word = (int)(column / 4) * VECTORS, group = (int)(column >> shift) * VECTORS;
        for (int v = 0; v < VECTORS; v++) {
            const vf weight = weight_of(tile[word + v], column, scales[group + v], biases[group + v]);
            for (int r = 0; r < rows; r++)
                total[r][v] = vf_fma(weight, vf_set(x.outliers->values[x.part + r]), total[r][v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++)
            sums[r * VECTORS + v] = total[r][v];
}

/* A tile's values, unpacked before; adds to the sums. */
INLINE void multiply_values(Rows x, int rows, int start, int depth, const vf *values, vf *sums) {
    vf total[GROUP][VECTORS] = {0};
    x.values += (ptrdiff_t)start * x.width;
    for (int i = 0; i < depth; i++, x.values += x.width)
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++)
                total[r][v] = vf_fma(values[i * VECTORS + v], vf_set(x.values[r]), total[r][v]);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++)
            sums[r * VECTORS + v] = sums[r * VECTORS + v] + total[r][v];
}

/* A function of its own for every kind of matrix, with a case for every number of rows. */
#define CASE_OF(n) \
    case n: MULTIPLY(m, row, x, n, KIND, sums); break;
#define FUNCTION(name)                                                           \
    static void name(const Matrix *m, int row, Rows x, int rows, vf *sums) {     \
        switch (rows) { UP_TO_GROUP(CASE_OF) }                                   \
    }
#define MULTIPLY multiply_panel
#define KIND 2
FUNCTION(multiply_2)
#undef KIND
#define KIND 3
FUNCTION(multiply_3)
#undef KIND
#define KIND 4
FUNCTION(multiply_4)
#undef KIND
#define KIND 5
FUNCTION(multiply_5)
#undef KIND
#define KIND 6
FUNCTION(multiply_6)
#undef KIND
#define KIND FP4
FUNCTION(multiply_fp4)
#undef KIND
#define KIND IQ4
FUNCTION(multiply_iq4)
#undef KIND
#define KIND HALVES + FP4
FUNCTION(multiply_fp4_halves)
#undef KIND
#define KIND HALVES + 2
FUNCTION(multiply_2_halves)
#undef KIND
#define KIND HALVES + 3
FUNCTION(multiply_3_halves)
#undef KIND
#define KIND HALVES + 4
FUNCTION(multiply_4_halves)
#undef KIND
#define KIND HALVES + 5
FUNCTION(multiply_5_halves)
#undef KIND
#define KIND HALVES + 6
FUNCTION(multiply_6_halves)
#undef KIND
#define KIND HALVES + 8
FUNCTION(multiply_8_halves)
#undef KIND
#define KIND 8
FUNCTION(multiply_8)
#undef KIND
#undef MULTIPLY
#define MULTIPLY multiply_dense
#define KIND F32
FUNCTION(multiply_f32)
#undef KIND
#define KIND F16
FUNCTION(multiply_f16)
#undef KIND
#define KIND BF16
FUNCTION(multiply_bf16)
#undef KIND

typedef void (*Multiply)(const Matrix *, int, Rows, int, vf *);
static const Multiply BY_KIND[2 * HALVES] = {
    [2] = multiply_2, [3] = multiply_3,     [4] = multiply_4, [5] = multiply_5,
    [6] = multiply_6, [FP4] = multiply_fp4, [8] = multiply_8, [IQ4] = multiply_iq4,
    [HALVES + 2] = multiply_2_halves, [HALVES + 3] = multiply_3_halves,
    [HALVES + 4] = multiply_4_halves, [HALVES + 5] = multiply_5_halves,
    [HALVES + 6] = multiply_6_halves, [HALVES + FP4] = multiply_fp4_halves,
    [HALVES + 8] = multiply_8_halves,
};
static const Multiply BY_TYPE[3] = {
    [F32] = multiply_f32, [F16] = multiply_f16, [BF16] = multiply_bf16,
};

static void product_of_panels(const Matrix *m, int row, const Input *x, int first, int rows,
                              vf *sums) {
    for (int v = 0; v < VECTORS && row < m->outputs; v++, row += LANES)
        for (int at = 0; at < rows; at += GROUP) {
            const int width = least(GROUP, rows - at);
            const int kind = kind_of(m) + (m->bits && m->group < RUN ? HALVES : 0);
            const Multiply multiply = m->bits ? BY_KIND[kind] : BY_TYPE[m->type];
            multiply(m, row, rows_of(x, first + at, width, 0), width, sums + at * VECTORS + v);
        }
}

static void product_of_codes(const Matrix *m, int row, const Input *x, int first, int rows,
                             vf *sums) {
    vi codes[(BYTES_DEPTH + TAIL) / 4 * VECTORS];
    vf scales[ALL_GROUPS * VECTORS], biases[ALL_GROUPS * VECTORS];
    for (int start = 0, depth; start < m->inputs; start += depth) {
        depth = depth_at(m, start);
        unpack_codes(m, row, start, depth, codes);
        unpack_scales(m, row, start, depth, scales, biases);
        for (int at = 0; at < rows; at += PART) {
            const int group = at / GROUP * GROUP;
            const Rows part = rows_of(x, first + group, least(GROUP, rows - group), at - group);
            vf *into = sums + at * VECTORS;
#define CASE(n)                                                                          \
    case n:                                                                              \
        if (!is_wide(kind_of(m)))                                                        \
            multiply_codes(m, part, n, start, depth, 4, codes, scales, biases, into);    \
        else                                                                             \
            multiply_codes(m, part, n, start, depth, 8, codes, scales, biases, into);    \
        break;
            switch (least(PART, rows - at)) { UP_TO_PART(CASE) }
#undef CASE
        }
    }
}

static void product_of_values(const Matrix *m, int row, const Input *x, int first, int rows,
                              vf *sums) {
    vf values[FLOATS_DEPTH * VECTORS];
    for (int start = 0; start < m->inputs; start += FLOATS_DEPTH) {
        const int depth = least(FLOATS_DEPTH, m->inputs - start);
        unpack_values(m, row, start, depth, values);
        for (int at = 0; at < rows; at += GROUP) {
            const int width = least(GROUP, rows - at);
            const Rows group = rows_of(x, first + at, width, 0);
#define CASE(n) \
    case n: multiply_values(group, n, start, depth, values, sums + at * VECTORS); break;
            switch (width) { UP_TO_GROUP(CASE) }
#undef CASE
        }
    }
}

void product(const Matrix *m, int row, const Input *x, int first, int rows, vf *sums) {
    memset(sums, 0, sizeof(vf) * VECTORS * (size_t)rows);
    const int exact = m->bits && !x->blocks;
    if (rows <= FEW && !exact && least(row + TILE, m->outputs) <= m->packed)
        product_of_panels(m, row, x, first, rows, sums);
    else if (x->blocks)
        product_of_codes(m, row, x, first, rows, sums);
    else
        product_of_values(m, row, x, first, rows, sums);
}
