/* A causal convolution of each channel over a ragged step, its last inputs kept between steps. */
#include "activation.h"
#include "export.h"
#include "threads.h"

enum { MAX_WIDTH = 8, CHANNELS = 512 }; /* channels of a task */

typedef struct {
    const float *x;             /* (rows, channels) */
    const float *weight, *bias; /* (width, channels), oldest first; (channels,) or null */
    float *state;               /* (slots, width - 1, channels), oldest first */
    const int32_t *starts, *state_slots, *fresh; /* (sequences + 1,), (sequences,), (sequences,) */
    float *out;
    int channels, width, silu;
} Conv;

/* LANES channels from `at` on, of one sequence. */
static void convolve(const Conv *c, int sequence, int at) {
    const int left = c->channels - at, width = c->width;
    const int start = c->starts[sequence], stop = c->starts[sequence + 1];
    float *state = c->state + (ptrdiff_t)c->state_slots[sequence] * (width - 1) * c->channels + at;
    vf window[MAX_WIDTH], weight[MAX_WIDTH], bias = {0};
    for (int i = 0; i < width; i++)
        weight[i] = vf_next(c->weight + (ptrdiff_t)i * c->channels + at, left);
    for (int i = 1; i < width; i++)
        window[i] = c->fresh[sequence] ? (vf){0}
                                       : vf_next(state + (ptrdiff_t)(i - 1) * c->channels, left);
    if (c->bias)
        bias = vf_next(c->bias + at, left);
    for (int row = start; row < stop; row++) {
        const ptrdiff_t place = (ptrdiff_t)row * c->channels + at;
        for (int i = 1; i < width; i++)
            window[i - 1] = window[i];
        window[width - 1] = vf_next(c->x + place, left);
        vf sum = window[0] * weight[0];
        for (int i = 1; i < width; i++)
            sum = vf_fma(window[i], weight[i], sum);
        sum += bias;
        vf_put(c->out + place, c->silu ? sum * vf_sigmoid(sum) : sum, left);
    }
    for (int i = 1; i < width; i++)
        vf_put(state + (ptrdiff_t)(i - 1) * c->channels, window[i], left);
}

static void run(void *context, int index) {
    const Conv *c = context;
    const int across = (c->channels - 1) / CHANNELS + 1;
    const int first = index % across * CHANNELS;
    for (int at = first; at < c->channels && at < first + CHANNELS; at += LANES)
        convolve(c, index / across, at);
}

EXPORT int op_conv1d(const float *x, const float *weight, const float *bias, float *state,
                     const int32_t *starts, const int32_t *state_slots, const int32_t *fresh,
                     int sequences, int channels, int width, int silu, float *out) {
    Conv c = {x, weight, bias, state, starts, state_slots, fresh, out, channels, width, silu};
    const int tasks = sequences * ((channels - 1) / CHANNELS + 1);
    if ((int64_t)starts[sequences] * channels * width < 1 << 16)
        for (int i = 0; i < tasks; i++)
            run(&c, i);
    else
        parallel(tasks, run, &c);
    return 0;
}
ENTRY(op_conv1d, w[0].p, w[1].p, w[2].p, w[3].p, w[4].p, w[5].p, w[6].p, w[7].i, w[8].i, w[9].i,
      w[10].i, w[11].p)
