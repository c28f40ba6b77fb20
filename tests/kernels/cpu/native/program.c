/* A program of calls beside the same calls one by one; it ends where one fails. */
#include "check.h"
#include "export.h"

int op_program(const Word *at, int calls);
int op_add_entry(const Word *w);
int op_multiply_entry(const Word *w);

static int fails(const Word *w) {
    return w[0].i;
}

void check_program(void) {
    enum { SIZE = 9 };
    float *x = noises(SIZE, 1), *sum = malloc(SIZE * sizeof *sum), *out = malloc(SIZE * sizeof *out);
    float expected[SIZE];
    Word words[] = {
        {.entry = op_add_entry}, {.i = 5}, {.p = x}, {.p = x}, {.f = 0.5f}, {.i = SIZE}, {.p = sum},
        {.entry = fails}, {.i = 1}, {.i = 0},
        {.entry = op_multiply_entry}, {.i = 4}, {.p = sum}, {.p = x}, {.i = SIZE}, {.p = out},
    };
    for (int i = 0; i < SIZE; i++)
        expected[i] = (x[i] + 0.5f * x[i]) * x[i];
    if (op_program(words, 3) || op_program(words, 0))
        exit(1);
    compare("program", out, expected, SIZE, 1e-6f);
    words[9].i = 7;
    memset(out, 0, SIZE * sizeof *out);
    if (op_program(words, 3) != 7 || out[0] != 0) {
        printf("program: a call that failed does not end it\n");
        exit(1);
    }
    free(x), free(sum), free(out);
}
