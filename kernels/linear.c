/* Linear layers: one matrix with bias and residual, or gate and up with the activation between. */
#include "product.h"
#include "activation.h"

typedef struct {
    const Matrix *matrix;
    Input input;
    int rows;
    const float *bias;     /* (outputs,) or null */
    const float *residual; /* (rows, outputs) or null, added to the result */
    float *out;
    int outputs;    /* of the result: half of the matrix's where it is gate and up */
    int activation; /* NONE, or what joins gate and up */
    float limit;    /* of a clamped activation */
    int tiles, each; /* of the result; how many a task takes */
} Linear;

static void finish(const Linear *l, int column, int row, int count, const vf *sums) {
    const float *residual = l->residual;
    for (int m = 0; m < count; m++)
        for (int v = 0; v < VECTORS; v++) {
            const int at = column + v * LANES, held = least(LANES, l->outputs - at);
            if (held <= 0)
                break;
            const ptrdiff_t place = (ptrdiff_t)(row + m) * l->outputs + at;
            vf sum = sums[m * VECTORS + v];
            if (l->bias && !l->activation)
                sum += held == LANES ? vf_load(l->bias + at) : vf_load_first(l->bias + at, held);
            if (residual)
                sum += held == LANES ? vf_load(residual + place)
                                     : vf_load_first(residual + place, held);
            if (held == LANES)
                vf_store(l->out + place, sum);
            else
                vf_store_first(l->out + place, sum, held);
        }
}

static void join(const Linear *l, int column, int count, vf *gate, const vf *up) {
    for (int v = 0; v < VECTORS; v++) {
        const int at = column + v * LANES, held = least(LANES, l->outputs - at);
        vf gate_bias = {0}, up_bias = {0};
        if (l->bias && held > 0) {
            gate_bias = vf_load_first(l->bias + at, held);
            up_bias = vf_load_first(l->bias + l->outputs + at, held);
        }
        for (int m = v; m < count * VECTORS; m += VECTORS)
            gate[m] = gated(gate[m] + gate_bias, up[m] + up_bias, l->activation, l->limit);
    }
}

static void run(void *context, int index) {
    const Linear *l = context;
    const int across = (l->tiles + l->each - 1) / l->each;
    const int row = index / across * ROWS, count = least(ROWS, l->rows - row);
    const int first = index % across * l->each, last = least(l->tiles, first + l->each);
    vf sums[ROWS * VECTORS], up[ROWS * VECTORS];
    for (int tile = first; tile < last; tile++) {
        const int column = tile * TILE;
        product(l->matrix, column, &l->input, row, count, sums);
        if (l->activation) {
            product(l->matrix, l->outputs + column, &l->input, row, count, up);
            join(l, column, count, sums, up);
        }
        finish(l, column, row, count, sums);
    }
}

/* Tasks of about equal size, several for each thread so that a slow one is not waited for; one
   alone where there is less to do than waking a thread costs. */
static int share(Linear *l) {
    const int rows = (l->rows + ROWS - 1) / ROWS, threads = pool_threads();
    const int64_t work = (int64_t)l->rows * l->matrix->inputs * l->matrix->outputs;
    l->tiles = (l->outputs + TILE - 1) / TILE;
    l->each = l->tiles;
    if (work > 1 << 16 && threads > 1)
        l->each = 1 + (l->tiles * rows - 1) / (threads * 8);
    l->each = least(l->each, l->tiles);
    return rows * ((l->tiles + l->each - 1) / l->each);
}

/* x: (rows, inputs); out: (rows, outputs), or half as many with an activation. */
EXPORT int op_linear(const Matrix *matrix, const float *x, int rows, const float *bias,
                     const float *residual, int activation, float limit, float *out) {
    Linear l = {
        .matrix = matrix,
        .rows = rows,
        .bias = bias,
        .residual = residual,
        .out = out,
        .outputs = activation ? matrix->outputs / 2 : matrix->outputs,
        .activation = activation,
        .limit = limit,
    };
    if (input_ready(&l.input, matrix, x, 0, &rows, 1))
        return 1;
    parallel(share(&l), run, &l);
    input_done(&l.input);
    return 0;
}
