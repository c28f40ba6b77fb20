/* Attention beside plain loops, over all formats and a handful of shapes. */
#include "../../../../kernels/attention/attention.h"
#include "check.h"

typedef struct {
    int heads, kv_heads, key, value; /* value 0: the first half of the key */
    int turned, from, interleaved, window, norms, sinks;
    float softcap;
} Shape;

enum { FLOATS, HALVES, BRAINS }; /* as in simd.h */
enum { SEQUENCES = 3, PAGES = 12, TABLE = 5 };
/* Three steps: prompts, chunks beside single tokens, single tokens. */
static const int COUNTS[][SEQUENCES] = {{1, 70, 33}, {1, 40, 1}, {1, 1, 1}};

static Pool pool_of(int width, int format, int kv_heads, int keys) {
    Pool made = {.width = width, .format = format, .kv_heads = kv_heads, .keys = keys};
    const size_t tokens = (size_t)(PAGES * kv_heads * PAGE), groups = (size_t)((width + 31) / 32);
    const size_t bits = format == FLOATS ? 32 : format == INT4 ? 4 : format == INT8 ? 8 : 16;
    made.codes = malloc(tokens * (size_t)width * bits / 8);
    memset(made.codes, 0xff, tokens * (size_t)width * bits / 8); /* NaN, if these are floats */
    if (format >= INT8) {
        made.scales = malloc(tokens * groups * 2);
        memset(made.scales, 0xff, tokens * groups * 2);
    }
    if (format == INT4) {
        made.biases = malloc(tokens * groups * 2);
        memset(made.biases, 0xff, tokens * groups * 2);
    }
    return made;
}

static void drop(const Pool *pool) {
    free(pool->codes);
    free(pool->scales);
    free(pool->biases);
}

/* Norm and position of a head, by the definition. */
static void turned(const Attention *a, const float *norm, int row, const float *x, double *out) {
    const int width = a->keys.width;
    double squares = 0;
    for (int i = 0; i < width; i++)
        squares += (double)x[i] * x[i];
    for (int i = 0; i < width; i++)
        out[i] = norm ? x[i] / sqrt(squares / width + a->eps) * norm[i] : x[i];
    for (int i = 0; i < a->turned; i++) {
        const int one = a->turned_from + (a->interleaved ? 2 * i : i);
        const int other = one + (a->interleaved ? 1 : a->turned);
        const double c = a->cos[row * a->turned + i], s = a->sin[row * a->turned + i];
        const double x0 = out[one], x1 = out[other];
        out[one] = x0 * c - x1 * s;
        out[other] = x1 * c + x0 * s;
    }
}

/* One head of one row; keys and values are a sequence's whole history. */
static void expected(const Attention *a, const double *q, const double *keys, const double *values,
                     int head, int position, float *out) {
    const int group = a->heads / a->kv_heads, kv = head / group;
    const int first = a->window && position >= a->window ? position + 1 - a->window : 0;
    double weights[TABLE * PAGE], top = a->sinks ? a->sinks[head] : -1e300;
    for (int t = first; t <= position; t++) {
        double score = 0;
        for (int i = 0; i < a->keys.width; i++)
            score += q[i] * keys[(t * a->kv_heads + kv) * a->keys.width + i];
        score *= a->scale;
        weights[t] = a->softcap != 0 ? a->softcap * tanh(score / a->softcap) : score;
        top = weights[t] > top ? weights[t] : top;
    }
    double sum = a->sinks ? exp(a->sinks[head] - top) : 0;
    for (int t = first; t <= position; t++)
        sum += weights[t] = exp(weights[t] - top);
    for (int i = 0; i < a->value_width; i++) {
        double result = 0;
        for (int t = first; t <= position; t++)
            result += weights[t] * values[(t * a->kv_heads + kv) * a->value_width + i];
        out[i] = (float)(result / sum);
    }
}

typedef struct {
    double *keys[SEQUENCES], *values[SEQUENCES];
    int lengths[SEQUENCES];
    int32_t tables[SEQUENCES * TABLE];
} History;

/* Keeps a row's keys and values where the definition finds them. */
static void remember(const Attention *a, History *h, int row) {
    const int owner = a->owners[row], position = a->positions[row];
    for (int kv = 0; kv < a->kv_heads; kv++) {
        const int place = position * a->kv_heads + kv;
        double *key = h->keys[owner] + (size_t)(place * a->keys.width);
        turned(a, a->k_norm, row, a->k + row * a->kv_stride + kv * a->keys.width, key);
        for (int i = 0; i < a->value_width; i++)
            h->values[owner][place * a->value_width + i] =
                a->v ? a->v[row * a->kv_stride + kv * a->value_width + i] : key[i];
    }
}

static void step(Attention *a, const Shape *shape, History *h, const int *counts, float bound) {
    const int rows = counts[0] + counts[1] + counts[2], value = a->value_width;
    const size_t wide = (size_t)(a->heads * a->keys.width);
    const size_t narrow = (size_t)(a->kv_heads * (a->keys.width + (shape->value ? value : 0)));
    float *q = noises((size_t)rows * wide, 2), *kv = noises((size_t)rows * narrow, 2);
    int32_t *places = malloc(sizeof(int32_t) * 3 * (size_t)rows);
    float *angles = noises((size_t)(2 * rows * a->turned), 1);
    const size_t results = (size_t)(rows * a->heads * value);
    float *found = malloc(results * sizeof(float)), *wanted = malloc(results * sizeof(float));
    double *turn = malloc(sizeof(double) * (size_t)a->keys.width);
    for (int owner = 0, row = 0; owner < SEQUENCES; owner++)
        for (int i = 0; i < counts[owner]; i++, row++) {
            const int position = h->lengths[owner]++;
            places[row] = position;
            places[rows + row] = h->tables[owner * TABLE + position / PAGE] * PAGE + position % PAGE;
            places[2 * rows + row] = owner;
        }
    a->rows = rows, a->q = q, a->k = kv, a->out = found;
    a->v = shape->value ? kv + a->kv_heads * a->keys.width : 0;
    a->q_stride = (int32_t)wide, a->kv_stride = (int32_t)narrow;
    a->positions = places, a->slots = places + rows, a->owners = places + 2 * rows;
    a->cos = angles, a->sin = angles + rows * a->turned;
    if (op_attention(a))
        exit(1);
    for (int row = 0; row < rows; row++)
        remember(a, h, row);
    for (int row = 0; row < rows; row++)
        for (int head = 0; head < a->heads; head++) {
            const int owner = a->owners[row];
            turned(a, a->q_norm, row, q + (size_t)row * wide + head * a->keys.width, turn);
            expected(a, turn, h->keys[owner], h->values[owner], head, a->positions[row],
                     wanted + (row * a->heads + head) * value);
        }
    compare("attention", found, wanted, results, bound);
    free(q), free(kv), free(places), free(angles), free(found), free(wanted), free(turn);
}

static void sequences(const Shape *shape, int format, float bound) {
    const int value = shape->value ? shape->value : shape->key / 2;
    float *norms = noises((size_t)(2 * shape->key), 1), *sinks = noises((size_t)shape->heads, 2);
    Pool keys = pool_of(shape->key, format, shape->kv_heads, 1), values = {0};
    if (shape->value)
        values = pool_of(value, format, shape->kv_heads, 0);
    History h = {.lengths = {0}};
    int32_t *tables = malloc(sizeof h.tables);
    const int32_t dealt[SEQUENCES][TABLE] = {{4}, {9, 1, 7, 2}, {3, 11}};
    memcpy(h.tables, dealt, sizeof h.tables);
    memcpy(tables, dealt, sizeof h.tables);
    for (int i = 0; i < SEQUENCES; i++) {
        h.keys[i] = malloc(sizeof(double) * (size_t)(TABLE * PAGE * shape->kv_heads * shape->key));
        h.values[i] = malloc(sizeof(double) * (size_t)(TABLE * PAGE * shape->kv_heads * value));
    }
    Attention a = {
        .q_norm = shape->norms ? norms : 0, .k_norm = shape->norms ? norms + shape->key : 0,
        .sinks = shape->sinks ? sinks : 0, .tables = tables, .table_width = TABLE,
        .keys = keys, .values = values, .value_width = value,
        .heads = shape->heads, .kv_heads = shape->kv_heads, .turned = shape->turned,
        .turned_from = shape->from, .interleaved = shape->interleaved, .window = shape->window,
        .scale = 0.08f, .softcap = shape->softcap, .eps = 1e-5f,
    };
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++)
        step(&a, shape, &h, COUNTS[i], bound);
    for (int i = 0; i < SEQUENCES; i++)
        free(h.keys[i]), free(h.values[i]);
    drop(&keys), drop(&values);
    free(norms), free(sinks), free(tables);
}

void check_attention(void) {
    static const Shape shapes[] = {
        {.heads = 4, .kv_heads = 2, .key = 32, .value = 32, .turned = 16},
        {.heads = 5, .kv_heads = 1, .key = 72, .value = 40, .turned = 9, .from = 3, .norms = 1},
        {.heads = 3, .kv_heads = 3, .key = 80, .value = 80, .turned = 40, .interleaved = 1, .window = 35},
        {.heads = 9, .kv_heads = 1, .key = 64, .value = 64, .sinks = 1, .softcap = 2, .window = 3},
        {.heads = 12, .kv_heads = 1, .key = 144, .turned = 36, .from = 72, .interleaved = 1},
    };
    static const struct {
        int format;
        float bound;
    } formats[] = {{FLOATS, 2e-5f}, {HALVES, 0.002f}, {BRAINS, 0.02f}, {INT8, 0.03f}, {INT4, 0.4f}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
            sequences(&shapes[s], formats[f].format, formats[f].bound);
}
