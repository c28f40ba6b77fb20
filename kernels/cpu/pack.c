/* Brings a matrix from a checkpoint's order into panels, in place. */
#include "export.h"
#include "matrix.h"
#include "threads.h"
#include "scratch.h"

#include <stdatomic.h>

typedef struct {
    const Matrix *matrix;
    const Matrix *pair[2]; /* whose panels come in turns; null where the matrix's own rows do */
    atomic_int failed;
} Packing;

/* Cells of LANES rows, each of `count`, so that cell i of all rows comes before cell i + 1. */
static void interleave(char *into, const char *rows, ptrdiff_t count, int width) {
    for (ptrdiff_t i = 0; i < count; i++)
        for (int r = 0; r < LANES; r++)
            memcpy(into + (i * LANES + r) * width, rows + (r * count + i) * width, (size_t)width);
}

/* `bits` is a constant where this is called: found out for each run, they take most of the time. */
INLINE void pack_runs(char *into, const char *rows, const Matrix *m, int bits) {
    const ptrdiff_t stride = row_bytes(m);
    vi_any *words = (vi_any *)into;
    for (int at = 0; at < m->inputs; at += RUN, words += bits) {
        vi codes[8];
        codes_of_rows(rows + at / 8 * bits, stride, LANES, bits, codes);
        pack_codes(codes, bits, words);
    }
}

static void pack_words(char *into, const char *rows, const Matrix *m) {
    switch (m->bits) {
    case 2: pack_runs(into, rows, m, 2); break;
    case 3: pack_runs(into, rows, m, 3); break;
    case 4: pack_runs(into, rows, m, 4); break;
    case 5: pack_runs(into, rows, m, 5); break;
    case 6: pack_runs(into, rows, m, 6); break;
    default: pack_runs(into, rows, m, 8); break;
    }
}

/* A row's bytes in a matrix's arrays, and those of a cell. */
typedef struct {
    ptrdiff_t weight, scales, biases;
    int scale, bias;
} Sizes;

static Sizes sizes_of(const Matrix *m) {
    if (!m->bits)
        return (Sizes){.weight = row_bytes(m)};
    const int whole = in_superblocks(m), bias = width_of(m->type), scale = whole ? 4 : bias;
    const ptrdiff_t groups = m->inputs / (whole ? SUPERBLOCK : m->group);
    return (Sizes){
        row_bytes(m),
        groups * (whole ? HELD[m->form].words : 1) * scale,
        m->biases ? groups * (whole ? HELD[m->form].factors : 1) * bias : 0,
        scale,
        bias,
    };
}

/* A panel's rows as they are, or a copy of them where there is room for one. */
static const char *rows_at(const void *array, ptrdiff_t row, ptrdiff_t bytes, char *copy) {
    const char *rows = (const char *)array + row * bytes;
    return copy ? memcpy(copy, rows, (size_t)(LANES * bytes)) : rows;
}

/* Rows from `from` on of one matrix become those from `to` on of another; `copy` has room for a part
   of a panel, where they are the same. */
static void pack_rows(const Matrix *into, ptrdiff_t to, const Matrix *m, ptrdiff_t from, char *copy) {
    const Sizes s = sizes_of(m);
    char *words = (char *)into->weight + to * s.weight;
    const char *rows = rows_at(m->weight, from, s.weight, copy);
    if (m->bits)
        pack_words(words, rows, m);
    else
        interleave(words, rows, s.weight / 4, 4);
    if (s.scales)
        interleave((char *)into->scales + to * s.scales, rows_at(m->scales, from, s.scales, copy),
                   s.scales / s.scale, s.scale);
    if (s.biases)
        interleave((char *)into->biases + to * s.biases, rows_at(m->biases, from, s.biases, copy),
                   s.biases / s.bias, s.bias);
}

static void pack_panel(void *context, int index) {
    Packing *p = context;
    const ptrdiff_t row = (ptrdiff_t)index * LANES;
    if (p->pair[0]) {
        pack_rows(p->matrix, row, p->pair[index % 2], row / (2 * LANES) * LANES, 0);
        return;
    }
    const Sizes s = sizes_of(p->matrix);
    const ptrdiff_t most = s.weight > s.scales + s.biases ? s.weight : s.scales + s.biases;
    char *copy = malloc((size_t)(LANES * most));
    if (copy)
        pack_rows(p->matrix, row, p->matrix, row, copy);
    else
        atomic_store(&p->failed, 1);
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

static int pack(Matrix *matrix, const Matrix *gate, const Matrix *up) {
    if (!matrix->bits && row_bytes(matrix) % 4)
        return 0; /* rows of an odd number of 16-bit values */
    Packing p = {.matrix = matrix, .pair = {gate, up}};
    parallel(matrix->outputs / LANES, pack_panel, &p);
    matrix->packed = matrix->outputs / LANES * LANES;
    collapse(matrix->weight, row_bytes(matrix) * matrix->outputs);
    return atomic_load(&p.failed);
}

/* Overwrites the matrix's arrays and says how many of its rows are packed now. */
EXPORT int op_pack(Matrix *matrix) { return pack(matrix, 0, 0); }

/* The same of a gate and of its up projection, whose panels come in turns; both have whole panels, and
   keep their arrays. */
EXPORT int op_pack_pair(const Matrix *gate, const Matrix *up, Matrix *matrix) {
    return pack(matrix, gate, up);
}
