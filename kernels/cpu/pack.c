/* Brings a matrix from a checkpoint's order into panels, in place. */
#include "export.h"
#include "matrix.h"
#include "threads.h"
#include "scratch.h"

#include <stdatomic.h>

typedef struct {
    const Matrix *matrix;
    atomic_int failed;
} Packing;

/* Cells of LANES rows, each of `count`, so that cell i of all rows comes before cell i + 1. */
static void interleave(char *rows, char *copy, ptrdiff_t count, int width) {
    memcpy(copy, rows, (size_t)(LANES * count * width));
    for (ptrdiff_t i = 0; i < count; i++)
        for (int r = 0; r < LANES; r++)
            memcpy(rows + (i * LANES + r) * width, copy + (r * count + i) * width, (size_t)width);
}

/* `bits` is a constant where this is called: found out for each run, they take most of the time. */
INLINE void pack_runs(char *rows, const char *copy, const Matrix *m, int bits) {
    const ptrdiff_t stride = row_bytes(m);
    vi_any *words = (vi_any *)rows;
    for (int at = 0; at < m->inputs; at += RUN, words += bits) {
        vi codes[8];
        codes_of_rows(copy + at / 8 * bits, stride, LANES, bits, codes);
        pack_codes(codes, bits, words);
    }
}

static void pack_words(char *rows, char *copy, const Matrix *m) {
    memcpy(copy, rows, (size_t)(LANES * row_bytes(m)));
    switch (m->bits) {
    case 2: pack_runs(rows, copy, m, 2); break;
    case 3: pack_runs(rows, copy, m, 3); break;
    case 4: pack_runs(rows, copy, m, 4); break;
    case 5: pack_runs(rows, copy, m, 5); break;
    case 6: pack_runs(rows, copy, m, 6); break;
    default: pack_runs(rows, copy, m, 8); break;
    }
}

static void pack_scales(const Matrix *m, ptrdiff_t row, char *copy) {
    const int blocks = m->inputs / SUPERBLOCK, groups = m->inputs / m->group;
    const int whole = in_superblocks(m), width = width_of(m->type);
    const ptrdiff_t cells = whole ? blocks * HELD[m->form].words : groups;
    const ptrdiff_t others = whole ? blocks * HELD[m->form].factors : groups;
    const int size = whole ? 4 : width;
    interleave((char *)m->scales + row * cells * size, copy, cells, size);
    if (m->biases)
        interleave((char *)m->biases + row * others * width, copy, others, width);
}

static void pack_panel(void *context, int index) {
    Packing *p = context;
    const Matrix *m = p->matrix;
    const ptrdiff_t row = (ptrdiff_t)index * LANES, stride = row_bytes(m);
    char *copy = malloc((size_t)(LANES * stride));
    if (!copy) {
        atomic_store(&p->failed, 1);
        return;
    }
    char *rows = (char *)m->weight + row * stride;
    if (m->bits) {
        pack_words(rows, copy, m);
        pack_scales(m, row, copy);
    } else {
        interleave(rows, copy, stride / 4, 4);
    }
    free(copy);
}

/* Rows of a panel. */
EXPORT int op_lanes(void) {
    return LANES;
}

#if defined(__linux__) && !defined(MADV_COLLAPSE)
#define MADV_COLLAPSE 25
#endif

/* Asks for pages of 2 MB under what is read as a whole, which small ones slow down. */
static void collapse(void *from, ptrdiff_t bytes) {
#if defined(__linux__)
    const uintptr_t first = ((uintptr_t)from + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    const uintptr_t last = ((uintptr_t)from + (uintptr_t)bytes) / HUGE_PAGE * HUGE_PAGE;
    if (last > first)
        madvise((void *)first, last - first, MADV_COLLAPSE);
#else
    (void)from, (void)bytes;
#endif
}

/* Overwrites the matrix's arrays and says how many of its rows are packed now. */
EXPORT int op_pack(Matrix *matrix) {
    if (!matrix->bits && row_bytes(matrix) % 4)
        return 0; /* rows of an odd number of 16-bit values */
    Packing p = {.matrix = matrix};
    parallel(matrix->outputs / LANES, pack_panel, &p);
    matrix->packed = matrix->outputs / LANES * LANES;
    collapse(matrix->weight, row_bytes(matrix) * matrix->outputs);
    return atomic_load(&p.failed);
}
