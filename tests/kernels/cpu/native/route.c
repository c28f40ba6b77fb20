/* The router beside plain loops. */
#include "check.h"

int op_route(const float *logits, const float *correction, int tokens, int experts, int k,
             int scoring, int normalise, float scale, int groups, int kept_groups, int top_two,
             float jitter, int32_t *indices, float *weights);

/* Whether what was chosen is right: no expert of a kept group is better than one chosen. */
static void check_token(const float *logits, const float *correction, int experts, int k,
                        int scoring, const int32_t *indices, const float *weights) {
    float *scores = malloc((size_t)experts * 4), expected;
    double sum = 0, total = 0;
    for (int i = 0; i < experts; i++)
        sum += exp(logits[i]);
    for (int i = 0; i < experts; i++)
        scores[i] = (float)(scoring ? 1 / (1 + exp(-logits[i])) : exp(logits[i]) / sum);
    for (int i = 0; i < k; i++)
        total += scores[indices[i]];
    for (int i = 0; i < k; i++) {
        expected = (float)(scores[indices[i]] / total * 2.5);
        compare("route, weight", weights + i, &expected, 1, 1e-5f);
        for (int e = 0; e < experts && correction; e++) {
            int earlier = 0;
            for (int j = 0; j <= i; j++)
                earlier |= indices[j] == e;
            if (!earlier && scores[e] + correction[e] >
                                scores[indices[i]] + correction[indices[i]] + 1e-5f) {
                printf("route: expert %d is better than %d\n", e, indices[i]);
                exit(1);
            }
        }
    }
    free(scores);
}

static void check(int tokens, int experts, int k, int scoring, int groups, int kept) {
    float *logits = noises((size_t)(tokens * experts), 4), *bias = noises((size_t)experts, 0.1f);
    int32_t *indices = malloc((size_t)(tokens * k) * 4);
    float *weights = malloc((size_t)(tokens * k) * 4);
    op_route(logits, groups > 1 ? 0 : bias, tokens, experts, k, scoring, 1, 2.5f, groups, kept,
             scoring, 0, indices, weights);
    for (int t = 0; t < tokens; t++)
        check_token(logits + t * experts, groups > 1 ? 0 : bias, experts, k, scoring,
                    indices + t * k, weights + t * k);
    void *all[] = {logits, bias, indices, weights};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* A sparse mixer: two picks, each its share among those close to it. */
static void check_mixer(int experts, float scale, float jitter) {
    float *logits = noises((size_t)experts, scale), weights[2], expected[2];
    int32_t indices[2];
    int first = 0, second = -1;
    op_route(logits, 0, 1, experts, 2, 2, 0, 1, 1, 1, 0, jitter, indices, weights);
    for (int i = 1; i < experts; i++)
        first = logits[i] > logits[first] ? i : first;
    for (int i = 0; i < experts; i++)
        second = i != first && (second < 0 || logits[i] > logits[second]) ? i : second;
    if (indices[0] != first || indices[1] != second)
        printf("route: the mixer takes %d and %d\n", indices[0], indices[1]), exit(1);
    for (int turn = 0; turn < 2; turn++) {
        const double best = logits[turn ? second : first];
        double sum = 0;
        for (int i = 0; i < experts; i++)
            if (!(turn && i == first) &&
                best - logits[i] <= 2 * jitter * fmax(fabs((double)logits[i]), best))
                sum += exp(logits[i] - best);
        expected[turn] = (float)(1 / sum);
    }
    compare("route, mixer", weights, expected, 2, 1e-5f);
    free(logits);
}

void check_route(void) {
    check_mixer(2, 1, 0.01f);
    check_mixer(16, 1, 0.3f);
    check_mixer(33, 0.1f, 0.1f);
    check(3, 1, 1, 0, 1, 1);
    check(400, 60, 4, 0, 1, 1);
    check(5, 33, 33, 1, 1, 1);
    check(50, 64, 6, 0, 8, 3);
    check(50, 256, 8, 1, 8, 4);
}
