/* Linear layers beside plain loops: every kind of matrix, in a checkpoint's order and packed. */
#include "matrix.h"

#include "check.h"
#include "threads.h"

int op_pack(Matrix *matrix);
int op_linear(const Matrix *matrix, const float *x, int rows, const float *bias,
              const float *residual, int activation, float limit, float *out);

typedef struct {
    int outputs, inputs, bits, group, type, form;
} Shape;

/* Values of an array of `type`; what they are is told by `read`. */
static void *stored(size_t count, int type, float scale) {
    char *made = malloc(count * (size_t)width_of(type));
    for (size_t i = 0; i < count; i++) {
        const float value = noise() * scale;
        const uint16_t half = type == F16 ? to_f16(value) : to_bf16(value);
        const uint8_t exponent = (uint8_t)(118 + bits32() % 8), float8 = bits32() % 48;
        if (type == F32)
            memcpy(made + 4 * i, &value, 4);
        else if (type == E8M0)
            made[i] = (char)exponent;
        else if (type == E4M3)
            made[i] = (char)float8;
        else
            memcpy(made + 2 * i, &half, 2);
    }
    return made;
}

static double e4m3(uint8_t code) {
    const int exponent = code >> 3 & 15, digits = code & 7;
    const double size = exponent ? ldexp(8 + digits, exponent - 10) : ldexp(digits, -9);
    return code >> 7 ? -size : size;
}

static double read(const void *from, size_t i, int type) {
    if (type == E8M0)
        return ldexp(1, ((const uint8_t *)from)[i] - 127);
    if (type == E4M3)
        return e4m3(((const uint8_t *)from)[i]);
    if (type == F32)
        return ((const float *)from)[i];
    const uint16_t half = ((const uint16_t *)from)[i];
    const uint32_t wide = (uint32_t)half << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    if (type == BF16)
        return value;
    const int exponent = half >> 10 & 31, digits = half & 1023;
    const double size = exponent ? ldexp(1024 + digits, exponent - 25) : ldexp(digits, -24);
    return half >> 15 ? -size : size;
}

/* Number `i` of 6 bits in 3 words. */
static int six(const uint32_t *words, int i) {
    return (int)(i < 15 ? words[i / 5] >> i % 5 * 6 & 63
                        : words[0] >> 30 | words[1] >> 30 << 2 | words[2] >> 30 << 4);
}

/* What a code of group `g` stands for in a superblock. */
static double in_superblock(const Matrix *m, size_t block, int g, int code) {
    const uint32_t *words = (const uint32_t *)m->scales + block * (size_t)HELD[m->form].words;
    const size_t factors = block * (size_t)HELD[m->form].factors;
    const int byte = m->form == Q2_K || m->form == Q6_K || m->form == IQ4_XS
                         ? ((const uint8_t *)words)[g] : 0;
    const double d = read(m->biases, factors, F16);
    switch (m->form) {
    case Q2_K: return d * (byte & 15) * code - read(m->biases, factors + 1, F16) * (byte >> 4);
    case Q3_K: return d * (six(words, g) - 32) * (code - 4);
    case Q6_K: return d * (int8_t)byte * (code - 32);
    case IQ4_XS: return d * (int8_t)byte * (IQ4_VALUES[code] - 128);
    default: return d * six(words, g) * code - read(m->biases, factors + 1, F16) * six(words, 8 + g);
    }
}

/* The matrix as the definition has it: a row's codes are one stream, from the lowest bit on. */
static double *plain(const Matrix *m) {
    static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    double *made = malloc(sizeof(double) * (size_t)m->outputs * (size_t)m->inputs);
    for (int row = 0; row < m->outputs; row++)
        for (int i = 0; i < m->inputs; i++) {
            const size_t at = (size_t)row * (size_t)m->inputs + (size_t)i;
            if (!m->bits) {
                made[at] = read(m->weight, at, m->type);
                continue;
            }
            const uint8_t *stream = (const uint8_t *)m->weight + row * row_bytes(m);
            int code = 0;
            for (int bit = 0; bit < m->bits; bit++) {
                const int place = i * m->bits + bit;
                code |= (stream[place / 8] >> place % 8 & 1) << bit;
            }
            if (in_superblocks(m)) {
                made[at] = in_superblock(m, at / SUPERBLOCK, i % SUPERBLOCK / m->group, code);
                continue;
            }
            const double scale = read(m->scales, at / (size_t)m->group, m->type);
            if (m->biases)
                made[at] = code * scale + read(m->biases, at / (size_t)m->group, m->type);
            else if (m->form == SYMMETRIC)
                made[at] = (code - (1 << (m->bits - 1))) * scale;
            else if (m->form == IQ4_NL)
                made[at] = (IQ4_VALUES[code] - 128) * scale;
            else if (m->bits == 8)
                made[at] = e4m3((uint8_t)code) * scale;
            else
                made[at] = (code & 8 ? -1 : 1) * e2m1[code & 7] * scale;
        }
    return made;
}

/* The place of the largest of a block. */
static int largest(const float *x, int block) {
    int place = 0;
    for (int i = 0; i < block; i++)
        place = fabsf(x[i]) > fabsf(x[place]) ? i : place;
    return place;
}

/* A row's blocks in 8 bits, each with a scale; with FINE, less what lies apart as it is. */
static void round_row(const Matrix *m, float *x, int block) {
    float mean = 0;
    for (int i = 0; i < m->inputs; i += block) {
        const float most = x[i + largest(x + i, block)];
        mean += most * most / (float)(m->inputs / block);
    }
    for (int i = 0; i < m->inputs; i += block) {
        const int place = i + largest(x + i, block);
        const float value = x[place];
        x[place] = 0;
        const float rest = x[i + largest(x + i, block)];
        const int apart = m->exact == FINE && value * value - rest * rest > 2 * mean;
        x[place] = apart ? 0 : value;
        const float scale = fabsf(x[i + largest(x + i, block)]) / 127;
        for (int j = i; j < i + block; j++)
            x[j] = scale > 0 ? rintf(x[j] * (1 / scale)) * scale : 0;
        x[place] = apart ? value : x[place];
    }
}

/* Activations as the product sees them: in 8 bits, unless exact. */
static double *seen(const Matrix *m, const float *x, int rows) {
    const size_t cells = (size_t)rows * (size_t)m->inputs;
    float *rounded = memcpy(malloc(cells * sizeof(float)), x, cells * sizeof(float));
    double *made = malloc(sizeof(double) * cells);
    for (int row = 0; row < rows && in_codes(m); row++)
        round_row(m, rounded + (ptrdiff_t)row * m->inputs, least(m->group, 64));
    for (size_t i = 0; i < cells; i++)
        made[i] = rounded[i];
    free(rounded);
    return made;
}

static float *expected(const Matrix *m, const double *weight, const float *x, int rows,
                       const float *bias, const float *residual, int gated) {
    const int outputs = gated ? m->outputs / 2 : m->outputs;
    double *sums = malloc(sizeof(double) * (size_t)m->outputs), *codes = seen(m, x, rows);
    float *made = malloc(sizeof(float) * (size_t)rows * (size_t)outputs);
    for (int row = 0; row < rows; row++) {
        for (int o = 0; o < m->outputs; o++) {
            sums[o] = bias ? bias[o] : 0;
            for (int i = 0; i < m->inputs; i++)
                sums[o] += weight[(ptrdiff_t)o * m->inputs + i] * codes[(ptrdiff_t)row * m->inputs + i];
        }
        for (int o = 0; o < outputs; o++) {
            const ptrdiff_t at = (ptrdiff_t)row * outputs + o;
            const double joined = sums[o] / (1 + exp(-sums[o])) * sums[gated ? outputs + o : 0];
            made[at] = (float)((gated ? joined : sums[o]) + (residual ? residual[at] : 0));
        }
    }
    free(sums), free(codes);
    return made;
}

static void same(const char *name, const float *a, const float *b, size_t count) {
    if (memcmp(a, b, count * sizeof(float)) != 0)
        printf("%s: not the same bits\n", name), exit(1);
}

/* Rows with outliers: in one column in all of them, and in one of its own in every third. */
static float *activations(int rows, int inputs) {
    float *x = noises((size_t)rows * (size_t)inputs, 1);
    for (int row = 0; row < rows; row++) {
        x[row * inputs + inputs / 3] *= 40;
        if (row % 3 == 0)
            x[row * inputs + (inputs - 1 - 7 * row % inputs)] *= 50;
    }
    return x;
}

/* In a checkpoint's order, by one thread and by all, then packed: the same bits three times. */
static void multiply(Matrix m, int rows, int gated, int joined) {
    const int outputs = gated ? m.outputs / 2 : m.outputs, threads = pool_threads();
    const size_t results = (size_t)rows * (size_t)outputs;
    float *x = activations(rows, m.inputs);
    float *bias = joined ? noises((size_t)m.outputs, 1) : 0, *residual = joined ? noises(results, 1) : 0;
    float *found = malloc(results * sizeof(float)), *again = malloc(results * sizeof(float));
    double *weight = plain(&m);
    float *wanted = expected(&m, weight, x, rows, bias, residual, gated);
    op_linear(&m, x, rows, bias, residual, gated, 7, found);
    compare("linear", found, wanted, results, 1e-4f);
    pool_resize(1);
    op_linear(&m, x, rows, bias, residual, gated, 7, again);
    pool_resize(threads);
    same("linear by one thread", found, again, results);

    const size_t size = (size_t)m.outputs * (size_t)row_bytes(&m);
    size_t scales = m.bits ? (size_t)(m.outputs * (m.inputs / m.group) * width_of(m.type)) : 0;
    size_t biases = scales;
    if (in_superblocks(&m)) {
        scales = (size_t)(m.outputs * (m.inputs / SUPERBLOCK) * HELD[m.form].words * 4);
        biases = (size_t)(m.outputs * (m.inputs / SUPERBLOCK) * HELD[m.form].factors * 2);
    }
    Matrix packed = m;
    packed.weight = memcpy(malloc(size), m.weight, size);
    packed.scales = scales ? memcpy(malloc(scales), m.scales, scales) : 0;
    packed.biases = m.biases ? memcpy(malloc(biases), m.biases, biases) : 0;
    op_pack(&packed);
    memset(again, 0xff, results * sizeof(float));
    op_linear(&packed, x, rows, bias, residual, gated, 7, again);
    same("linear, packed", found, again, results);
    free(packed.weight), free(packed.scales), free(packed.biases);
    free(x), free(bias), free(residual), free(found), free(again), free(weight), free(wanted);
}

/* A NaN or an infinity in row 1 shows in all of it, and in no other. */
static void multiply_broken(const Matrix *m, int rows, int gated, float broken) {
    const int outputs = gated ? m->outputs / 2 : m->outputs;
    float *x = noises((size_t)rows * (size_t)m->inputs, 1);
    float *found = malloc(sizeof(float) * (size_t)rows * (size_t)outputs);
    float *row = x + m->inputs;
    row[0] = row[m->inputs - 1] = broken;
    op_linear(m, x, rows, 0, 0, gated, 7, found);
    for (int i = 0; i < rows * outputs; i++)
        if (!isfinite(found[i]) != (i / outputs == 1))
            printf("linear: %g in row %d\n", found[i], i / outputs), exit(1);
    free(x), free(found);
}

static uint32_t *words_of_bits(size_t count, uint32_t mask) {
    uint32_t *made = malloc(count * sizeof *made);
    for (size_t i = 0; i < count; i++)
        made[i] = bits32() & mask;
    return made;
}

static void check(Shape s, int rows, int exact, int gated, int joined) {
    Matrix m = {.outputs = s.outputs, .inputs = s.inputs, .bits = s.bits, .group = s.group,
                .type = s.type, .exact = exact, .form = s.form};
    const size_t cells = (size_t)s.outputs * (size_t)s.inputs;
    if (!s.bits) {
        m.weight = stored(cells, s.type, 0.5f);
    } else {
        const size_t words = cells * (size_t)s.bits / 32, groups = cells / (size_t)s.group;
        const int floats = s.bits == 8 && s.form == FLOATS;
        /* of floats only those below 2: none is NaN */
        m.weight = words_of_bits(words, floats ? 0xb7b7b7b7 : ~0u);
        const size_t blocks = cells / SUPERBLOCK, whole = blocks * (size_t)HELD[s.form].words;
        m.scales = in_superblocks(&m) ? words_of_bits(whole, s.form == IQ4_XS ? 0x9f9f9f9f : ~0u)
                                      : stored(groups, s.type, 1.0f / (float)(1 << s.bits));
        if (in_superblocks(&m))
            m.biases = stored(blocks * (size_t)HELD[s.form].factors, F16, 1e-3f);
        else if (s.form == AFFINE)
            m.biases = stored(groups, s.type, 0.5f);
    }
    multiply(m, rows, gated, joined);
    if (rows > 1)
        multiply_broken(&m, rows, gated, NAN), multiply_broken(&m, rows, gated, -INFINITY);
    free(m.weight), free(m.scales), free(m.biases);
}

void check_linear(void) {
    static const int bits[] = {2, 3, 4, 5, 6, 8};
    static const Shape others[] = {
        {33, 96, 4, 32, E8M0, FLOATS},  {64, 544, 4, 32, E8M0, FLOATS},
        {33, 96, 8, 32, E8M0, FLOATS},  {64, 544, 8, 32, E8M0, FLOATS},
        {33, 96, 4, 16, E4M3, FLOATS},  {64, 544, 4, 16, E4M3, FLOATS},
        {33, 96, 4, 32, F16, SYMMETRIC}, {64, 544, 5, 32, F16, SYMMETRIC},
        {37, 576, 8, 32, F16, SYMMETRIC}, {37, 576, 4, 32, F16, IQ4_NL},
        {33, 768, 4, 32, F16, IQ4_XS},  {33, 768, 2, 16, F16, Q2_K},
        {33, 768, 3, 16, F16, Q3_K},    {33, 768, 4, 32, F16, Q4_K},
        {33, 768, 5, 32, F16, Q5_K},    {33, 768, 6, 16, F16, Q6_K},
        {7, 31, 0, 0, F32, AFFINE},     {33, 130, 0, 0, F32, AFFINE},
        {7, 31, 0, 0, F16, AFFINE},     {33, 130, 0, 0, F16, AFFINE},
        {5, 1, 0, 0, BF16, AFFINE},     {64, 258, 0, 0, BF16, AFFINE},
        {40, 1152, 4, 64, F16, AFFINE}, {37, 96, 4, 16, F32, AFFINE},
    };
    for (int b = 0; b < 6; b++)
        for (int group = 32; group <= 128; group *= 2)
            for (int exact = 0; exact <= FINE; exact++) {
                const Shape even = {64, 5 * group, bits[b], group, (b + exact) % 3, AFFINE};
                const Shape odd = {37, 3 * group, bits[b], group, (b + group / 32) % 3, AFFINE};
                check(even, 1, exact, 1, 1);
                check(even, 14, exact, 1, 0);
                check(odd, 1, exact, 0, 0);
                check(odd, 41, exact, 0, 1);
            }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        for (int rows = 1; rows < 60; rows += 19)
            check(others[i], rows, rows % 3, 0, rows > 1), check(others[i], rows, FINE, 0, 0);
    check((Shape){96, 64, 4, 64, BF16, AFFINE}, 200, 0, 1, 1); /* more than ROWS */
    check((Shape){96, 64, 6, 32, F32, AFFINE}, 200, 1, 0, 1);
    check((Shape){96, 576, 4, 32, F16, AFFINE}, 200, FINE, 1, 0);
    check((Shape){50, 66, 0, 0, F16, AFFINE}, 200, 0, 0, 1);
}
