/* Rows of an embedding matrix as floats, by token. */
#include "export.h"
#include "matrix.h"
#include "threads.h"

typedef struct {
    const Matrix *matrix;
    const int32_t *tokens;
    int rows, each; /* each: rows of a task */
    float *out;     /* (rows, inputs) */
} Lookup;

/* Word `i` of a row whose panel begins at `panel`. */
static uint32_t word_in(const char *panel, int64_t i, int lane) {
    uint32_t word;
    memcpy(&word, panel + (i * LANES + lane) * 4, sizeof word);
    return word;
}

static void copy_dense(const Matrix *m, int64_t row, float *out) {
    const int64_t start = row * m->inputs;
    int i = 0;
    for (; i + LANES <= m->inputs; i += LANES)
        vf_store(out + i, vf_load_as(m->weight, start + i, m->type));
    for (; i < m->inputs; i++)
        out[i] = load_as(m->weight, start + i, m->type);
}

static void copy_packed(const Matrix *m, int64_t row, float *out) {
    const int lane = (int)(row % LANES), each = 4 / width_of(m->type);
    const char *panel = (const char *)m->weight + (row - lane) * row_bytes(m);
    for (int i = 0; i < m->inputs; i++) {
        const uint32_t word = word_in(panel, i / each, lane);
        const uint16_t half = (uint16_t)(word >> i % each * 16);
        if (m->type == F32)
            memcpy(out + i, &word, sizeof word);
        else
            out[i] = (m->type == F16 ? half_to_float(half) : bf_to_float(half));
    }
}

/* Codes of a run of a row that lies in a panel: `pack_codes` the other way round. */
static void codes_packed(const Matrix *m, int64_t row, int start, uint8_t *codes) {
    const int low = m->bits == 8 ? 8 : m->bits < 4 ? 2 : 4, rest = m->bits - low;
    const int lane = (int)(row % LANES);
    const char *panel = (const char *)m->weight + (row - lane) * row_bytes(m);
    uint32_t words[8];
    for (int i = 0; i < m->bits; i++)
        words[i] = word_in(panel, start / RUN * m->bits + i, lane);
    for (int i = 0; i < RUN / 4; i++) {
        uint32_t four = words[i * low / 8] >> i * low % 8 & 0x01010101u * ((1u << low) - 1);
        if (rest)
            four |= (words[low + i * rest / 8] >> i * rest % 8 & 0x01010101u * ((1u << rest) - 1))
                    << low;
        memcpy(codes + 4 * i, &four, sizeof four);
    }
}

static void codes_of_run(const Matrix *m, int64_t row, int start, uint8_t *codes) {
    if (row < m->packed) {
        codes_packed(m, row, start, codes);
        return;
    }
    uint8_t run[64] = {0}, bytes[64];
    memcpy(run, (const char *)m->weight + row * row_bytes(m) + start / 8 * m->bits,
           (size_t)(RUN / 8 * m->bits));
    spread64(run, m->bits, bytes);
    memcpy(codes, bytes, RUN);
}

static vf codes_at(const uint8_t *codes) {
    int32_t wide[LANES] ALIGNED;
    for (int i = 0; i < LANES; i++)
        wide[i] = codes[i];
    return vf_of(vi_load(wide));
}

/* What a code of E2M1 stands for (OCP Microscaling Formats, 5.3.3). */
static const float VALUES[16] = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                 -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

/* E8M0's least is 2^-127, which `load_as` says is 0. */
static float scale_of_floats(const Matrix *m, int64_t group) {
    if (m->type == E8M0 && !((const uint8_t *)m->scales)[group])
        return 0x1p-127f;
    return load_as(m->scales, group, m->type);
}

static void scale_floats(const Matrix *m, int64_t group, const uint8_t *codes, int count,
                         float *out) {
    const float scale = scale_of_floats(m, group);
    for (int i = 0; i < count; i++)
        out[i] = (m->bits == 4 ? VALUES[codes[i]] : e4m3_to_float(codes[i])) * scale;
}

/* `count` codes that share a scale. */
static void scale_codes(const uint8_t *codes, int count, float scale, float bias, float *out) {
    for (int i = 0; i < count; i += LANES)
        vf_store(out + i, codes_at(codes + i) * scale + bias);
}

static void restore_floats(const Matrix *m, int64_t row, float *out) {
    const int64_t groups = m->inputs / m->group, lane = row % LANES;
    const int alike = least(RUN, m->group);
    for (int at = 0; at < m->inputs; at += RUN) {
        uint8_t codes[RUN];
        codes_of_run(m, row, at, codes);
        for (int i = 0; i < RUN; i += alike) {
            const int64_t group = (at + i) / m->group;
            scale_floats(m, row < m->packed ? (row - lane) * groups + group * LANES + lane
                                            : row * groups + group, codes + i, alike, out + at + i);
        }
    }
}

/* Codes with the scales and biases of the row's panel, of so many groups at a time. */
static void restore_codes(const Matrix *m, int64_t row, float *out) {
    const int groups = m->inputs / m->group, lane = (int)(row % LANES);
    const int alike = least(RUN, m->group), kind = kind_of(m);
    vf scales[MAX_GROUPS], biases[MAX_GROUPS];
    for (int at = 0; at < m->inputs; at += RUN) {
        uint8_t codes[RUN];
        codes_of_run(m, row, at, codes);
        for (int i = 0; i < RUN && kind == IQ4; i++)
            codes[i] = IQ4_VALUES[codes[i]];
        for (int i = 0; i < RUN; i += alike) {
            const int group = (at + i) / m->group, place = group % MAX_GROUPS;
            if (place == 0 && (at + i) % m->group == 0)
                panel_scales(m, (int)row - lane, group, least(MAX_GROUPS, groups - group), scales,
                             biases);
            scale_codes(codes + i, alike, scales[place][lane], biases[place][lane], out + at + i);
        }
    }
}

static void run(void *context, int index) {
    const Lookup *l = context;
    const Matrix *m = l->matrix;
    for (int i = index * l->each; i < l->rows && i < (index + 1) * l->each; i++) {
        int64_t row = l->tokens[i];
        row = row < 0 ? row + m->outputs : row;
        row = row < 0 ? 0 : row < m->outputs ? row : m->outputs - 1;
        float *out = l->out + (ptrdiff_t)i * m->inputs;
        if (m->form == FLOATS)
            restore_floats(m, row, out);
        else if (m->bits)
            restore_codes(m, row, out);
        else if (row < m->packed)
            copy_packed(m, row, out);
        else
            copy_dense(m, row, out);
    }
}

/* A negative token counts from the end; one that is out of range takes the nearest row. */
EXPORT int op_embedding(const Matrix *matrix, const int32_t *tokens, int rows, float *out) {
    Lookup l = {matrix, tokens, rows, 1 + (1 << 14) / matrix->inputs, out};
    parallel((rows - 1) / l.each + 1, run, &l);
    return 0;
}
ENTRY(op_embedding, w[0].p, w[1].p, w[2].i, w[3].p)
