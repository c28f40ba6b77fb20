/* A layer's output, let through by a gate of as many numbers: x * sigmoid(gates). */
#include "activation.h"
#include "export.h"
#include "threads.h"

enum { EACH = 1 << 13 }; /* numbers of a task */

typedef struct {
    const float *x, *gates;
    float *out;
    int64_t size;
} SigmoidGate;

static void run(void *context, int index) {
    const SigmoidGate *s = context;
    const int64_t start = (int64_t)index * EACH;
    const int64_t stop = start + EACH < s->size ? start + EACH : s->size;
    for (int64_t i = start; i < stop; i += LANES) {
        const int left = (int)(stop - i);
        vf_put(s->out + i, vf_next(s->x + i, left) * vf_sigmoid(vf_next(s->gates + i, left)), left);
    }
}

EXPORT int op_sigmoid_gate(const float *x, const float *gates, int rows, int width, float *out) {
    SigmoidGate s = {x, gates, out, (int64_t)rows * width};
    parallel((int)((s.size - 1) / EACH + 1), run, &s);
    return 0;
}
ENTRY(op_sigmoid_gate, w[0].p, w[1].p, w[2].i, w[3].i, w[4].p)
