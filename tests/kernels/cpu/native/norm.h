/* What the cases of both norms share. */
#pragma once
#include "check.h"

/* A norm's case: x (rows, width), a weight in bfloat16 and the same in float32, a bias. */
typedef struct {
    int rows, width;
    float *x, *weight, *bias, *out;
    uint16_t *half;
} NormCase;

NormCase norm_case(int rows, int width);

/* Compares `out` with a plain loop's, with the mean taken off and the bias added if `centred`, and
   frees the case. */
void check_norm(const char *name, NormCase c, int centred);

enum { WIDTHS = 6 };
static const int WIDTH[WIDTHS] = {1, 3, 17, 64, 100, 2049};
