/* Log probabilities of chosen rows of logits: of one token each, and of the likeliest. */
#include "export.h"
#include "threads.h"
#include "select.h"

#include <stdatomic.h>

typedef struct {
    const float *logits;         /* (any, vocabulary) */
    const int32_t *rows, *tokens; /* (count,) each */
    int vocabulary, most;
    float *chosen;      /* (count,) */
    int32_t *ids;    /* (count, most) */
    float *scores;   /* (count, most) */
    atomic_int failed;
} Scores;

static double log_of_sum(const float *values, int count, float most) {
    double sum = 0;
    for (int start = 0; start < count; start += SPAN)
        sum += sum_of_span(values, start, count, most, 1);
    return most + log(sum);
}

static void run(void *context, int index) {
    Scores *s = context;
    const float *values = s->logits + (ptrdiff_t)s->rows[index] * s->vocabulary;
    const int token = s->tokens[index] > 0 ? s->tokens[index] : 0;
    int32_t *ids = s->ids + (ptrdiff_t)index * s->most;
    float *scores = s->scores + (ptrdiff_t)index * s->most;
    const Peak peak = peak_of(values, s->vocabulary);
    if (peak.nan) {
        s->chosen[index] = NAN;
        for (int i = 0; i < s->most; i++) {
            ids[i] = i;
            scores[i] = NAN;
        }
        return;
    }
    const double log_sum = log_of_sum(values, s->vocabulary, peak.most);
    List list = {0};
    if (best(values, s->vocabulary, s->most, &list))
        atomic_store(&s->failed, 1);
    else
        sort_few(list.items, list.count);
    for (int i = 0; i < list.count; i++) {
        ids[i] = list.items[i].id;
        scores[i] = (float)(list.items[i].value - log_sum);
    }
    s->chosen[index] = (float)(values[token < s->vocabulary ? token : 0] - log_sum);
    free(list.items);
}

/* `most` is at most the vocabulary. */
EXPORT int op_logprobs(const float *logits, const int32_t *rows, const int32_t *tokens, int count,
                       int vocabulary, int most, float *chosen, int32_t *ids, float *scores) {
    Scores s = {logits, rows, tokens, vocabulary, most, chosen, ids, scores, 0};
    parallel(count, run, &s);
    return atomic_load(&s.failed);
}
