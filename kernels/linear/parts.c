/* A layer's output, let through by a gate of as many numbers. */
#include "activation.h"
#include "export.h"
#include "threads.h"

enum { EACH = 1 << 13 }; /* numbers of a task */

typedef struct {
    const float *x, *gates;
    float *out;
    int64_t size;
} Opened;

static void run(void *context, int index) {
    const Opened *o = context;
    const int64_t start = (int64_t)index * EACH;
    const int64_t stop = start + EACH < o->size ? start + EACH : o->size;
    for (int64_t i = start; i < stop; i += LANES) {
        const int left = (int)(stop - i);
        vf_put(o->out + i, vf_next(o->x + i, left) * vf_sigmoid(vf_next(o->gates + i, left)), left);
    }
}

EXPORT int op_opened(const float *x, const float *gates, int rows, int width, float *out) {
    Opened o = {x, gates, out, (int64_t)rows * width};
    parallel((int)((o.size - 1) / EACH + 1), run, &o);
    return 0;
}
