/* The router and the sort by expert beside plain loops. */
#include "check.h"

int op_route(const float *logits, const float *correction, int tokens, int experts, int k,
             int scoring, int normalise, float scale, int groups, int kept_groups, int top_two,
             int32_t *indices, float *weights);
int op_sort_by_expert(const int32_t *indices, int pairs, int experts, int32_t *order,
                      int32_t *offsets);

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
    int32_t *indices = malloc((size_t)(tokens * k) * 4), *order = malloc((size_t)(tokens * k) * 4);
    int32_t *offsets = malloc((size_t)(experts + 1) * 4);
    float *weights = malloc((size_t)(tokens * k) * 4);
    op_route(logits, groups > 1 ? 0 : bias, tokens, experts, k, scoring, 1, 2.5f, groups, kept,
             scoring, indices, weights);
    for (int t = 0; t < tokens; t++)
        check_token(logits + t * experts, groups > 1 ? 0 : bias, experts, k, scoring,
                    indices + t * k, weights + t * k);
    op_sort_by_expert(indices, tokens * k, experts, order, offsets);
    for (int e = 0; e < experts; e++)
        for (int i = offsets[e]; i < offsets[e + 1]; i++)
            if (indices[order[i]] != e || (i > offsets[e] && order[i] <= order[i - 1])) {
                printf("sort_by_expert: pair %d is out of place\n", i);
                exit(1);
            }
    void *all[] = {logits, bias, indices, order, offsets, weights};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

void check_route(void) {
    check(3, 1, 1, 0, 1, 1);
    check(400, 60, 4, 0, 1, 1);
    check(5, 33, 33, 1, 1, 1);
    check(50, 64, 6, 0, 8, 3);
    check(50, 256, 8, 1, 8, 4);
}
