/* Sampling beside a sort. */
#include "check.h"

#include <stddef.h>

int op_sample(const float *logits, int rows, int vocabulary, const float *temperature,
              const int32_t *top_k, const float *top_p, const float *min_p, const double *uniform,
              const uint32_t *allowed, int32_t *out);

enum { ROWS = 6 };
static const float TEMPERATURE[] = {0, 1, 0.7f, 1, 1.5f, 1}, TOP_P[] = {1, 1, 1, 0.8f, 0.9f, 1};
static const float MIN_P[] = {0, 0, 0, 0, 0.01f, 0.05f};
static const int32_t TOP_K[] = {0, 0, 40, 0, 300, 0};

/* The rank that a row's draw has; the vocabulary's end if it is not among those left. */
static int expected_rank(const float *logits, const int32_t *order, int count, int row, double u) {
    const int within = TOP_K[row] && TOP_K[row] < count ? TOP_K[row] : count;
    double total = 0, mass = 0, sum = 0;
    int most = 0;
    for (int i = 0; i < within; i++)
        total += exp((logits[order[i]] - logits[order[0]]) / TEMPERATURE[row]);
    for (; most < within; most++) {
        const double chance = exp((logits[order[most]] - logits[order[0]]) / TEMPERATURE[row]);
        if (most && (mass >= TOP_P[row] * total || chance < MIN_P[row]))
            break;
        mass += chance;
    }
    for (int i = 0; i < most; i++) {
        sum += exp((logits[order[i]] - logits[order[0]]) / TEMPERATURE[row]);
        if (sum > u * mass)
            return i;
    }
    return most - 1;
}

static void check_draws(int count, float scale) {
    float *logits = noises(ROWS * (size_t)count, scale);
    double uniform[ROWS];
    int32_t out[ROWS];
    uint32_t *allowed = malloc(ROWS * (size_t)((count + 31) / 32) * 4);
    memset(allowed, 255, ROWS * (size_t)((count + 31) / 32) * 4);
    for (int i = 0; i < ROWS; i++)
        uniform[i] = 0.5 + 0.4999 * noise();
    op_sample(logits, ROWS, count, TEMPERATURE, TOP_K, TOP_P, MIN_P, uniform,
              bits32() & 1 ? allowed : 0, out);
    for (int row = 0; row < ROWS; row++) {
        const float *mine = logits + (ptrdiff_t)row * count;
        int32_t *order = ranked(mine, count), rank = 0;
        while (rank < count && order[rank] != out[row])
            rank++;
        int expected = TEMPERATURE[row] == 0 ? 0 : expected_rank(mine, order, count, row, uniform[row]);
        if (row != 1 && abs(rank - expected) > (TEMPERATURE[row] == 0 ? 0 : 2)) {
            printf("sample: row %d of %d has rank %d, expected %d\n", row, count, rank, expected);
            exit(1);
        }
        if (rank == count) {
            printf("sample: row %d of %d is no token\n", row, count);
            exit(1);
        }
        free(order);
    }
    free(logits);
    free(allowed);
}

void check_sample(void) {
    const int counts[] = {1, 2, 15, 33, 1024, 1025, 5003};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        check_draws(counts[i], 0.001f);
        check_draws(counts[i], 8);
    }
}
