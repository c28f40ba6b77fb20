/* Rows of activations times TILE rows of a matrix: what every linear operation is made of. */
#pragma once
#include "export.h"
#include "matrix.h"
#include "threads.h"

/* Rows that are multiplied together, as many as the registers hold sums for: with a panel, with a
   tile in bytes (of these rows a part), with a tile in floats. */
#if LANES == 16
enum { GROUP = 12, PART = 6 };
#elif LANES == 4
enum { GROUP = 8, PART = 4 };
#else
enum { GROUP = 4, PART = 2 };
#endif

/* Rows that a task takes at once: their sums stay in the second cache. Up to FEW of them a panel is
   unpacked for every group anew, from the first cache; beyond, a tile is unpacked once. */
enum { ROWS = 16 * GROUP, FEW = 3 * GROUP };

/* An input that is multiplied apart from its block, in floats: so large that the block's scale, which
   is that of its largest, would round the others away. */
typedef struct {
    unsigned column;     /* UINT_MAX ends a group's list, which is in their order */
    float values[GROUP]; /* of each row; 0 where it stays among the codes */
} Outlier;

/* Rows of activations as a matrix wants them. A segment's rows lie in groups of GROUP, the last one
   smaller: four codes (or one float) of each of a group's rows, then the next four. */
typedef struct {
    int inputs, blocks;  /* of quantized activations in a row; 0 where they are floats */
    const float *values; /* (rows, inputs), grouped */
    const int8_t *codes; /* (rows, inputs), grouped */
    const float *scales; /* (rows, blocks), grouped */
    const float *sums;   /* the same: of a block's codes, times their scale */
    const Outlier *outliers; /* (rows, apart + 1): a group's list is where its first row's would be */
    int apart;               /* as many as a row may have; 0 where all are among the codes */
    void *memory;
} Input;

/* Prepares (rows, inputs) in segments that end at ends[0] < ends[1] < ..; row i is values[from[i]],
   or values[i] without `from`. 1 where memory is short, otherwise `input_done` is owed. */
int input_ready(Input *x, const Matrix *m, const float *values, const int *from, const int *ends,
                int segments);
void input_done(Input *x);

/* sums[rows][VECTORS] = rows `first` to `first + rows` of x, which begin a group of their segment,
   times rows `row` to `row + TILE` of the matrix. */
void product(const Matrix *m, int row, const Input *x, int first, int rows, vf *sums);
