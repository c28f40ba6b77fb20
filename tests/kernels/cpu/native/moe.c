/* Experts beside plain loops: sorted and not, with an expert that nobody chose, and with a gate that
   takes floats beside an up that takes activations in 8 bits. */
#include "activation.h"
#include "check.h"
#include "matrix.h"

/* As in kernels/moe/moe.c. */
typedef struct {
    const Matrix *gate, *up, *down;
    const float *gate_bias, *up_bias, *down_bias;
    int32_t experts, hidden, width, activation;
    float limit;
} Experts;

int op_moe(const Experts *experts, const float *x, int rows, const int32_t *chosen,
           const float *weights, int each, const float *residual, int sorted, float *out);

static float times(const float *row, const float *x, int count, float bias) {
    double sum = bias;
    for (int i = 0; i < count; i++)
        sum += (double)row[i] * x[i];
    return (float)sum;
}

enum { PLAIN, GATED, BESIDE_CODES }; /* experts: without a gate, with one, and up in codes */
enum { BLOCK_OF = 32 };

/* ups: the values of up. */
static void plainly(const Experts *e, const float *ups, const float *x, int rows, const int32_t *chosen,
                    const float *weights, int each, const float *residual, float *out) {
    float *inner = malloc(sizeof *inner * (size_t)e->width);
    for (int i = 0; i < rows * e->hidden; i++)
        out[i] = residual[i];
    for (int pair = 0; pair < rows * each; pair++) {
        const int expert = chosen[pair], row = pair / each;
        const float *up = ups + expert * e->width * e->hidden;
        const float *gate = e->gate ? (const float *)e->gate->weight + (up - ups) : 0;
        const float *down = (const float *)e->down->weight + expert * e->hidden * e->width;
        for (int i = 0; i < e->width; i++) {
            const float *from = x + row * e->hidden;
            const float g = !e->gate ? 0 : times(gate + i * e->hidden, from, e->hidden,
                                  e->gate_bias[expert * e->width + i]);
            const float u = times(up + i * e->hidden, from, e->hidden,
                                  e->up_bias[expert * e->width + i]);
            inner[i] = e->gate ? g / (1 + expf(-g)) * u : u > 0 ? u * u : 0;
        }
        for (int i = 0; i < e->hidden; i++)
            out[row * e->hidden + i] +=
                weights[pair] * times(down + i * e->width, inner, e->width,
                                      e->down_bias[expert * e->hidden + i]);
    }
    free(inner);
}

static Matrix dense(int outputs, int inputs) {
    return (Matrix){
        .weight = noises((size_t)outputs * inputs, 0.3f), .outputs = outputs, .inputs = inputs};
}

/* Codes of 8 bits in place of a dense matrix; gives the values that they stand for. */
static float *coded(Matrix *m) {
    const size_t size = (size_t)m->outputs * m->inputs, blocks = size / BLOCK_OF;
    float *values = m->weight, *scales = noises(blocks, 0.002f), *biases = noises(blocks, 0.2f);
    uint8_t *codes = malloc(size);
    for (size_t i = 0; i < size; i++) {
        codes[i] = (uint8_t)bits32();
        values[i] = codes[i] * scales[i / BLOCK_OF] + biases[i / BLOCK_OF];
    }
    m->weight = codes, m->scales = scales, m->biases = biases;
    m->bits = 8, m->group = BLOCK_OF;
    return values;
}

static void mixture(int rows, int count, int each, int hidden, int width, int gated) {
    Matrix gate = dense(count * width, hidden), up = dense(count * width, hidden);
    Matrix down = dense(count * hidden, width);
    float *biases[3] = {noises((size_t)(count * width), 1), noises((size_t)(count * width), 1),
                        noises((size_t)(count * hidden), 1)};
    float *ups = gated == BESIDE_CODES ? coded(&up) : up.weight;
    const Experts e = {gated ? &gate : 0, &up, &down, biases[0], biases[1], biases[2], count,
                       hidden, width, gated ? SILU : RELU2, 0};
    const size_t cells = (size_t)rows * hidden, pairs = (size_t)rows * each;
    float *x = noises(cells, 1), *residual = noises(cells, 1), *weights = noises(pairs, 1);
    float *found = malloc(sizeof(float) * cells), *wanted = malloc(sizeof(float) * cells);
    int32_t *chosen = malloc(sizeof(int32_t) * pairs);
    for (size_t i = 0; i < pairs; i++) /* never the last one, where there is another */
        chosen[i] = (int32_t)((bits32() + i) % (uint32_t)(count > 1 ? count - 1 : 1));
    plainly(&e, ups, x, rows, chosen, weights, each, residual, wanted);
    for (int sorted = 0; sorted < 2; sorted++) {
        if (op_moe(&e, x, rows, chosen, weights, each, residual, sorted, found))
            exit(1);
        compare("moe", found, wanted, cells, gated == BESIDE_CODES ? 5e-2f : 2e-4f);
    }
    for (int i = 0; i < 3; i++)
        free(biases[i]);
    if (gated == BESIDE_CODES)
        free(ups), free(up.scales), free(up.biases);
    free(gate.weight), free(up.weight), free(down.weight), free(x), free(residual);
    free(weights), free(found), free(wanted), free(chosen);
}

void check_moe(void) {
    mixture(1, 2, 2, 64, 16, BESIDE_CODES);
    mixture(230, 3, 2, 32, 40, BESIDE_CODES);
    for (int gated = PLAIN; gated <= GATED; gated++) {
        mixture(1, 1, 1, 32, 16, gated);
        mixture(1, 4, 2, 33, 15, gated);
        mixture(7, 5, 3, 64, 40, gated);
        mixture(230, 3, 2, 40, 48, gated);
    }
}
