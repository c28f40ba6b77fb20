/* Linear layers: one matrix with bias and residual, or gate and up with the activation between. */
#include "matmul.h"
#include "activation.h"

typedef struct {
    const Matrix *matrix;
    Input input;
    int rows;
    const float *bias;     /* (outputs,) or null; of gate and up, one after the other */
    const float *residual; /* (rows, outputs) or null, added to the result */
    float *out;
    int outputs;    /* of the result: half of the matrix's where it is gate and up */
    int activation; /* NONE, or what joins gate and up */
    float limit;    /* of a clamped activation */
    Parts parts;
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
                sum += vf_next(l->bias + at, held);
            if (residual)
                sum += vf_next(residual + place, held);
            vf_put(l->out + place, sum, held);
        }
}

static void join(const Linear *l, int column, int count, vf *gate, const vf *up) {
    for (int v = 0; v < VECTORS; v++) {
        const int at = column + v * LANES, held = least(LANES, l->outputs - at);
        vf gate_bias = {0}, up_bias = {0};
        if (l->bias && held > 0) {
            gate_bias = vf_next(l->bias + at, held);
            up_bias = vf_next(l->bias + l->outputs + at, held);
        }
        for (int m = v; m < count * VECTORS; m += VECTORS)
            gate[m] = gated(gate[m] + gate_bias, up[m] + up_bias, l->activation, l->limit);
    }
}

/* Gate and up lie in turns, a panel each: one tile holds both. */
static void run_paired(const Linear *l, int row, int count, int tile) {
    const int column = tile * LANES;
    vf sums[ROWS * VECTORS], gate_bias = {0}, up_bias = {0};
    if (l->bias) {
        gate_bias = vf_load(l->bias + column);
        up_bias = vf_load(l->bias + l->outputs + column);
    }
    product(l->matrix, tile * TILE, &l->input, row, count, sums);
    for (int m = 0; m < count; m++)
        vf_store(l->out + (ptrdiff_t)(row + m) * l->outputs + column,
                 gated(sums[m * VECTORS] + gate_bias, sums[m * VECTORS + 1] + up_bias,
                       l->activation, l->limit));
}

static void run_tile(const Linear *l, int row, int count, int tile) {
    const int column = tile * TILE;
    vf sums[ROWS * VECTORS], up[ROWS * VECTORS];
    product(l->matrix, column, &l->input, row, count, sums);
    if (l->activation) {
        product(l->matrix, l->outputs + column, &l->input, row, count, up);
        join(l, column, count, sums, up);
    }
    finish(l, column, row, count, sums);
}

static void run(void *context, int index) {
    const Linear *l = context;
    const int row = index / l->parts.count * ROWS, count = least(ROWS, l->rows - row);
    const int part = index % l->parts.count, paired = l->activation && l->matrix->paired;
    for (int tile = l->parts.starts[part]; tile < l->parts.starts[part + 1]; tile++)
        if (paired)
            run_paired(l, row, count, tile);
        else
            run_tile(l, row, count, tile);
}

/* Gives the number of tasks: one alone where there is less to do than waking a thread costs. */
static int share(Linear *l) {
    const int each = l->activation && l->matrix->paired ? LANES : TILE;
    const int64_t work = (int64_t)l->rows * l->matrix->inputs * l->matrix->outputs;
    const int threads = work > 1 << 16 ? pool_threads() : 1;
    cut_in_parts((l->outputs + each - 1) / each, threads, &l->parts);
    return (l->rows + ROWS - 1) / ROWS * l->parts.count;
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
ENTRY(op_linear, w[0].p, w[1].p, w[2].i, w[3].p, w[4].p, w[5].i, w[6].f, w[7].p)
