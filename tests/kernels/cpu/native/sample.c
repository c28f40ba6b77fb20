/* Sampling, edits and log probabilities beside a sort. */
#include "check.h"

#include <stddef.h>

int op_sample(const float *logits, int rows, int vocabulary, const float *temperature,
              const int32_t *top_k, const float *top_p, const float *min_p, const double *uniform,
              const uint32_t *allowed, int32_t *out);
int op_edit(float *logits, int rows, int vocabulary, int entries, const int32_t *row,
            const int32_t *id, const float *bias, const float *penalty, const float *less);
int op_logprobs(const float *logits, const int32_t *rows, const int32_t *tokens, int count,
                int vocabulary, int most, float *own, int32_t *ids, float *scores);

enum { ROWS = 6 };
static const float TEMPERATURE[] = {0, 1, 0.7f, 1, 1.5f, 1}, TOP_P[] = {1, 1, 1, 0.8f, 0.9f, 1};
static const float MIN_P[] = {0, 0, 0, 0, 0.01f, 0.05f};
static const int32_t TOP_K[] = {0, 0, 40, 0, 300, 0};

static const float *sorting;

static int by_rank(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sorting[x] != sorting[y])
        return sorting[x] > sorting[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

static int32_t *ranked(const float *logits, int count) {
    int32_t *order = malloc((size_t)count * 4);
    for (int i = 0; i < count; i++)
        order[i] = i;
    sorting = logits;
    qsort(order, (size_t)count, 4, by_rank);
    return order;
}

/* The rank that a row's draw has; the vocabulary's end if it is not among those kept. */
static int expected_rank(const float *logits, const int32_t *order, int count, int row, double u) {
    const int within = TOP_K[row] && TOP_K[row] < count ? TOP_K[row] : count;
    double total = 0, kept = 0, sum = 0;
    int most = 0;
    for (int i = 0; i < within; i++)
        total += exp((logits[order[i]] - logits[order[0]]) / TEMPERATURE[row]);
    for (; most < within; most++) {
        const double chance = exp((logits[order[most]] - logits[order[0]]) / TEMPERATURE[row]);
        if (most && (kept >= TOP_P[row] * total || chance < MIN_P[row]))
            break;
        kept += chance;
    }
    for (int i = 0; i < most; i++) {
        sum += exp((logits[order[i]] - logits[order[0]]) / TEMPERATURE[row]);
        if (sum > u * kept)
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

static void check_scores(int count, int most) {
    float *logits = noises(3 * (size_t)count, 5), *scores = malloc((size_t)(2 * most) * 4), own[2];
    int32_t *ids = malloc((size_t)(2 * most) * 4);
    const int32_t rows[] = {2, 0}, tokens[] = {count - 1, -1};
    op_logprobs(logits, rows, tokens, 2, count, most, own, ids, scores);
    for (int i = 0; i < 2; i++) {
        const float *mine = logits + (ptrdiff_t)rows[i] * count;
        int32_t *order = ranked(mine, count);
        double sum = 0;
        for (int j = 0; j < count; j++)
            sum += exp(mine[j]);
        float expected = (float)(mine[i ? 0 : count - 1] - log(sum));
        compare("logprobs, own", own + i, &expected, 1, 1e-5f);
        for (int j = 0; j < most; j++) {
            expected = (float)(mine[order[j]] - log(sum));
            compare("logprobs", scores + i * most + j, &expected, 1, 1e-5f);
        }
        free(order);
    }
    free(logits);
    free(scores);
    free(ids);
}

static void check_edits(void) {
    float *logits = noises(2 * 9, 1), *expected = malloc(2 * 9 * 4);
    memcpy(expected, logits, 2 * 9 * 4);
    const int32_t row[] = {0, 1, 2, 0, -1}, id[] = {8, 0, 0, 9, 0};
    const float bias[] = {5, -5, 1, 1, 1}, penalty[] = {2, 2, 2, 2, 2}, less[] = {1, 0, 1, 1, 1};
    op_edit(logits, 2, 9, 5, row, id, bias, penalty, less);
    expected[8] = (expected[8] + 5) / 2 - 1;
    expected[9] = (expected[9] - 5) * 2;
    compare("edit", logits, expected, 2 * 9, 0);
    free(logits);
    free(expected);
}

void check_sample(void) {
    const int counts[] = {1, 2, 15, 33, 1024, 1025, 5003};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        check_draws(counts[i], 0.001f);
        check_draws(counts[i], 8);
        check_scores(counts[i], counts[i] < 20 ? counts[i] : 20);
    }
    check_edits();
}
