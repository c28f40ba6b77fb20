/* The causal convolution beside plain loops. */
#include "check.h"

int op_conv1d(const float *x, const float *weight, const float *bias, float *state,
              const int32_t *starts, const int32_t *slots, const int32_t *fresh, int sequences,
              int channels, int width, int silu, float *out);

enum { ROWS = 9, SEQUENCES = 3, SLOTS = 4 };
static const int32_t STARTS[] = {0, 1, 7, 9}, SLOT[] = {3, 0, 2}, FRESH[] = {0, 1, 0};

/* What row `row` of a sequence sees `back` rows before, which may lie in the state. */
static float input(const float *x, const float *state, int sequence, int row, int back, int channel,
                   int channels, int width) {
    const int at = row - back;
    if (at >= STARTS[sequence])
        return x[at * channels + channel];
    if (FRESH[sequence])
        return 0;
    return state[(SLOT[sequence] * (width - 1) + width - 1 + at - STARTS[sequence]) * channels +
                 channel];
}

static void check(int channels, int width, int silu) {
    const size_t size = ROWS * (size_t)channels, kept = SLOTS * (size_t)(width - 1) * (size_t)channels;
    float *x = noises(size, 1), *weight = noises((size_t)(width * channels), 1);
    float *bias = noises((size_t)channels, 1), *state = noises(kept, 1), *out = malloc(size * 4);
    float *expected = malloc(size * 4), *last = malloc(kept * 4);
    memcpy(last, state, kept * 4);
    for (int s = 0; s < SEQUENCES; s++)
        for (int c = 0; c < channels; c++) {
            for (int row = STARTS[s]; row < STARTS[s + 1]; row++) {
                float sum = silu ? bias[c] : 0;
                for (int back = 0; back < width; back++)
                    sum += weight[(width - 1 - back) * channels + c] *
                           input(x, state, s, row, back, c, channels, width);
                expected[row * channels + c] = silu ? sum / (1 + expf(-sum)) : sum;
            }
            for (int i = 0; i < width - 1; i++)
                last[(SLOT[s] * (width - 1) + i) * channels + c] =
                    input(x, state, s, STARTS[s + 1] - 1, width - 2 - i, c, channels, width);
        }
    op_conv1d(x, weight, silu ? bias : 0, state, STARTS, SLOT, FRESH, SEQUENCES, channels, width,
              silu, out);
    compare("conv1d", out, expected, size, 1e-5f);
    compare("conv1d, state", state, last, kept, 0);
    void *all[] = {x, weight, bias, state, out, expected, last};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

void check_conv1d(void) {
    const int channels[] = {1, 16, 37, 2500};
    for (int i = 0; i < 4; i++)
        for (int width = 2; width <= 8; width += 2)
            check(channels[i], width, i & 1);
}
