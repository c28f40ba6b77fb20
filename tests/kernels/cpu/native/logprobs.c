/* Log probabilities beside a sort. */
#include "check.h"

#include <stddef.h>

int op_logprobs(const float *logits, const int32_t *rows, const int32_t *tokens, int count,
                int vocabulary, int most, float *own, int32_t *ids, float *scores);

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

void check_logprobs(void) {
    const int counts[] = {1, 2, 15, 33, 1024, 1025, 5003};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        check_scores(counts[i], counts[i] < 20 ? counts[i] : 20);
}
