/* The router of a mixture of experts. */
#include "export.h"
#include "threads.h"
#include "simd.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

/* The same numbers as in route.py. */
enum { SOFTMAX = 0, SIGMOID = 1, SPARSEMIXER = 2 };

typedef struct {
    const float *logits, *correction; /* (tokens, experts); (experts,) or null */
    int tokens, experts, k, scoring, normalise;
    float scale;
    int groups, kept_groups, top_two; /* top_two: a group's score is the sum of its best two */
    float jitter;                     /* of SPARSEMIXER */
    int32_t *indices;                 /* (tokens, k) */
    float *weights;                   /* (tokens, k) */
    int each;                         /* tokens of a task */
    atomic_int failed;
} Router;

static void score(const Router *r, const float *logits, float *scores) {
    const int count = r->experts;
    float most = -INFINITY, sum;
    for (int i = 0; i < count; i++)
        most = logits[i] > most ? logits[i] : most;
    vf sums = {0};
    for (int i = 0; i < count; i += LANES) {
        const vf v = vf_next(logits + i, count - i);
        vf_put(scores + i, r->scoring == SIGMOID ? vf_sigmoid(v) : vf_exp(v - most), count - i);
        sums += vf_next(scores + i, count - i);
    }
    sum = vf_sum(sums);
    for (int i = 0; i < count && r->scoring == SOFTMAX; i++)
        scores[i] /= sum;
}

/* The first of the highest; NaN counts as the lowest. What was `taken` is left out. */
static int highest(const float *values, const char *taken, int count) {
    int best_at = -1;
    for (int i = 0; i < count; i++)
        if (!taken[i] && (best_at < 0 || values[i] > values[best_at] ||
                          (values[best_at] != values[best_at] && values[i] == values[i])))
            best_at = i;
    return best_at;
}

static float score_of_group(const float *choice, int size, int top_two) {
    float first = -INFINITY, second = -INFINITY;
    for (int i = 0; i < size; i++)
        if (choice[i] > first) {
            second = first;
            first = choice[i];
        } else if (choice[i] > second)
            second = choice[i];
    return top_two && size > 1 ? first + second : first;
}

/* Marks the experts of the lesser groups as taken. */
static void limit_groups(const Router *r, const float *choice, float *scores, char *allowed,
                         char *taken) {
    const int size = r->experts / r->groups;
    for (int i = 0; i < r->groups; i++)
        scores[i] = score_of_group(choice + i * size, size, r->top_two);
    memset(allowed, 0, (size_t)r->groups);
    for (int i = 0; i < r->kept_groups; i++)
        allowed[highest(scores, allowed, r->groups)] = 1;
    for (int i = 0; i < r->experts; i++)
        taken[i] = !allowed[i / size];
}

/* The share of the best among those that are not taken and close to it: within 2 * jitter of the
   larger of the best and their own size. NaN is taken last, so it is in every share. */
static float share_of(const float *logits, const char *taken, int count, float best,
                      float jitter) {
    float sum = 0;
    for (int i = 0; i < count; i++) {
        const float size = fabsf(logits[i]), most = size > best ? size : best;
        const int far = (best - logits[i]) / most > 2 * jitter;
        if (!taken[i] && !far)
            sum += expf(logits[i] - best);
    }
    return 1 / sum;
}

static void mix(const Router *r, int token, char *taken) {
    const float *logits = r->logits + (ptrdiff_t)token * r->experts;
    int32_t *indices = r->indices + (ptrdiff_t)token * r->k;
    float *weights = r->weights + (ptrdiff_t)token * r->k, sum = 0;
    memset(taken, 0, (size_t)r->experts);
    for (int i = 0; i < r->k; i++) {
        indices[i] = highest(logits, taken, r->experts);
        weights[i] = share_of(logits, taken, r->experts, logits[indices[i]], r->jitter);
        taken[indices[i]] = 1;
        sum += weights[i];
    }
    for (int i = 0; i < r->k; i++)
        weights[i] = weights[i] / (r->normalise ? sum : 1) * r->scale;
}

static void route(const Router *r, int token, float *scratch, char *marks) {
    float *scores = scratch, *choice = scratch + r->experts, sum = 0, score_sum = 0;
    char *taken = marks, *allowed = marks + r->experts;
    int32_t *indices = r->indices + (ptrdiff_t)token * r->k;
    float *weights = r->weights + (ptrdiff_t)token * r->k;
    if (r->scoring == SPARSEMIXER) {
        mix(r, token, taken);
        return;
    }
    score(r, r->logits + (ptrdiff_t)token * r->experts, scores);
    for (int i = 0; i < r->experts; i++) {
        choice[i] = r->correction ? scores[i] + r->correction[i] : scores[i];
        score_sum += scores[i];
    }
    memset(taken, 0, (size_t)r->experts);
    if (r->groups > 1)
        limit_groups(r, choice, choice + r->experts, allowed, taken);
    for (int i = 0; i < r->k; i++) {
        indices[i] = highest(choice, taken, r->experts);
        taken[indices[i]] = 1;
        weights[i] = scores[indices[i]];
        sum += weights[i];
    }
    for (int i = 0; i < r->k; i++) {
        weights[i] = weights[i] / (r->normalise ? sum : 1) * r->scale;
        if (score_sum != score_sum) /* NaN must not hide at another expert */
            weights[i] = NAN;
    }
}

static void run(void *context, int index) {
    Router *r = context;
    float *scratch = malloc(sizeof(float) * 3 * (size_t)r->experts + 2 * (size_t)r->experts);
    if (!scratch) {
        atomic_store(&r->failed, 1);
        return;
    }
    for (int i = index * r->each; i < r->tokens && i < (index + 1) * r->each; i++)
        route(r, i, scratch, (char *)(scratch + 3 * r->experts));
    free(scratch);
}

/* `k` experts must be left once groups are. */
EXPORT int op_route(const float *logits, const float *correction, int tokens, int experts, int k,
                    int scoring, int normalise, float scale, int groups, int kept_groups,
                    int top_two, float jitter, int32_t *indices, float *weights) {
    Router r = {logits, correction,  tokens,  experts, k,       scoring, normalise, scale,
                groups, kept_groups, top_two, jitter,  indices, weights, 0,         0};
    r.each = 1 + (1 << 13) / (experts * k);
    parallel((tokens - 1) / r.each + 1, run, &r);
    return atomic_load(&r.failed);
}
ENTRY(op_route, w[0].p, w[1].p, w[2].i, w[3].i, w[4].i, w[5].i, w[6].i, w[7].f, w[8].i, w[9].i,
      w[10].i, w[11].f, w[12].p, w[13].p)
