/* A linear layer of each head's own: rows of one head after the other, each head's times its part of
   the matrix; what follows a head's inputs is passed on. */
#include "matmul.h"
#include "scratch.h"

typedef struct {
    const Matrix *matrix; /* (heads * outputs, inputs) */
    const float *x;       /* (rows, heads, inputs + rest) */
    float *out;           /* (rows, heads, outputs + rest) */
    int rows, heads, outputs, rest;
    Input input; /* (heads, rows, inputs) */
    Parts parts; /* of a head's tiles */
} Heads;

static void turn(const Heads *h, float *turned, int *ends) {
    const int inputs = h->matrix->inputs, width = inputs + h->rest;
    for (int head = 0; head < h->heads; head++) {
        for (int row = 0; row < h->rows; row++, turned += inputs)
            memcpy(turned, h->x + ((ptrdiff_t)row * h->heads + head) * width,
                   sizeof(float) * (size_t)inputs);
        ends[head] = (head + 1) * h->rows;
    }
}

static void pass_rest(const Heads *h) {
    const int inputs = h->matrix->inputs;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)h->rows * h->heads; i++)
        memcpy(h->out + i * (h->outputs + h->rest) + h->outputs,
               h->x + i * (inputs + h->rest) + inputs, sizeof(float) * (size_t)h->rest);
}

static void run_tile(const Heads *h, int head, int row, int count, int tile) {
    const int column = tile * TILE;
    vf sums[ROWS * VECTORS];
    product(h->matrix, head * h->outputs + column, &h->input, head * h->rows + row, count, sums);
    for (int r = 0; r < count; r++) {
        const ptrdiff_t place = (ptrdiff_t)(row + r) * h->heads + head;
        for (int v = 0; v < VECTORS && column + v * LANES < h->outputs; v++) {
            const int at = column + v * LANES;
            vf_put(h->out + place * (h->outputs + h->rest) + at, sums[r * VECTORS + v],
                   h->outputs - at);
        }
    }
}

static void run(void *context, int index) {
    const Heads *h = context;
    const int part = index % h->parts.count, head = index / h->parts.count % h->heads;
    const int row = index / h->parts.count / h->heads * ROWS;
    const int count = least(ROWS, h->rows - row);
    for (int tile = h->parts.starts[part]; tile < h->parts.starts[part + 1]; tile++)
        run_tile(h, head, row, count, tile);
}

/* Gives the number of tasks; a head's rows of the matrix are shared out if heads are few. */
static int share(Heads *h) {
    const int tiles = (h->outputs + TILE - 1) / TILE, wanted = pool_threads() * 4;
    cut_in_parts(tiles, h->heads < wanted ? pool_threads() : 1, &h->parts);
    return (h->rows + ROWS - 1) / ROWS * h->heads * h->parts.count;
}

/* A row `head * outputs` of the matrix may not be in the middle of a panel. */
EXPORT int op_head_linear(const Matrix *matrix, const float *x, int rows, int heads, int rest,
                          float *out) {
    Heads h = {
        .matrix = matrix,
        .x = x,
        .out = out,
        .rows = rows,
        .heads = heads,
        .outputs = matrix->outputs / heads,
        .rest = rest,
    };
    const size_t cells = (size_t)rows * (size_t)heads * (size_t)matrix->inputs;
    float *turned = scratch(sizeof(float) * cells + sizeof(int) * (size_t)heads);
    if (!turned)
        return 1;
    int *ends = (int *)(turned + cells);
    turn(&h, turned, ends);
    const int failed = input_ready(&h.input, matrix, turned, 0, ends, heads);
    if (!failed) {
        parallel(share(&h), run, &h);
        input_done(&h.input);
        pass_rest(&h);
    }
    free(turned);
    return failed;
}
ENTRY(op_head_linear, w[0].p, w[1].p, w[2].i, w[3].i, w[4].i, w[5].p)
