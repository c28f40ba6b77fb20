/* Linear layers of heads beside plain loops, packed and not, with values that are passed on. */
#include "check.h"
#include "matrix.h"

int op_pack(Matrix *matrix);
int op_head_linear(const Matrix *matrix, const float *x, int rows, int heads, int rest, float *out);

static void check(int rows, int heads, int inputs, int outputs, int rest, int packed) {
    const int width = inputs + rest, wide = outputs + rest;
    const size_t cells = (size_t)heads * (size_t)outputs * (size_t)inputs;
    float *values = noises(cells, 1), *matrix = malloc(cells * sizeof(float));
    memcpy(matrix, values, cells * sizeof(float));
    Matrix m = {.weight = matrix, .outputs = heads * outputs, .inputs = inputs, .type = F32};
    if (packed)
        op_pack(&m);
    float *x = noises((size_t)rows * (size_t)heads * (size_t)width, 1);
    const size_t results = (size_t)rows * (size_t)heads * (size_t)wide;
    float *found = malloc(results * sizeof(float)), *wanted = malloc(results * sizeof(float));
    for (size_t i = 0; i < results; i++) {
        const int place = (int)(i / (size_t)wide), at = (int)(i % (size_t)wide);
        const float *from = x + place * width;
        double sum = 0;
        for (int j = 0; j < inputs && at < outputs; j++)
            sum += (double)from[j] * values[(place % heads * outputs + at) * inputs + j];
        wanted[i] = at < outputs ? (float)sum : from[inputs + at - outputs];
    }
    if (op_head_linear(&m, x, rows, heads, rest, found))
        exit(1);
    compare("head_linear", found, wanted, results, 1e-4f);
    free(values), free(matrix), free(x), free(found), free(wanted);
}

void check_head_linear(void) {
    check(1, 1, 1, 1, 0, 0);
    check(1, 3, 30, 7, 5, 0);
    check(40, 3, 130, 33, 3, 0);
    check(200, 2, 64, 48, 0, 1);
    check(1, 20, 16, 64, 4, 1);
}
