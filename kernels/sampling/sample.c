/* Draws one token a row; rows in parallel, none seeing another.

   A draw that cuts the tail puts the chances into bins by how far below the likeliest they lie, in
   order of rank; only the bin where the cut falls and the one where the draw falls are looked into. */
#include "export.h"
#include "threads.h"
#include "select.h"

#include <stdatomic.h>

/* Chances below e^-87.4 are 0: the last bin holds them. */
enum { BINS_A_NAT = 16, BINS = 88 * BINS_A_NAT + 1 };

typedef struct {
    const float *logits; /* (rows, vocabulary) */
    int rows, vocabulary;
    const float *temperature, *top_p, *min_p; /* (rows,) each */
    const int32_t *top_k;
    const double *uniform;
    const uint32_t *allowed; /* (rows, vocabulary / 32, rounded up), bit i of a word; or null */
    int32_t *out;
    atomic_int failed;
} Step;

/* Candidates of one row, and how to weigh them. */
typedef struct {
    const float *values;
    const int32_t *ids; /* null where they are 0, 1, 2, ... */
    int count;
    Peak peak;
    float rate; /* 1 / temperature */
} View;

typedef struct {
    List list;
    float *values; /* the row with what is not allowed at -infinity, or the top k */
    int32_t *ids;
    double *sums; /* of bins, then of spans */
} Scratch;

static double below(double value) {
    return nextafter(value, -INFINITY);
}

INLINE vi bins_of(const View *view, vf v) {
    vf depth = (v - view->peak.most) * (view->rate * -BINS_A_NAT);
    return vi_round(vf_min(vf_set(BINS - 1), depth));
}

/* Odd and even lanes go to two tables, so that a sum seldom waits for the one before. */
static void weigh(const View *view, double *mass) {
    memset(mass, 0, 2 * BINS * sizeof *mass);
    for (int at = 0; at < view->count; at += LANES) {
        const vf v = values_at(view->values, at, view->count);
        const vf chance = chance_of(v, view->peak.most, view->rate);
        if (!vi_bits((vi)(chance > 0.0f)))
            continue;
        float chances[LANES] ALIGNED;
        int32_t bins[LANES] ALIGNED;
        vf_store(chances, chance);
        vi_store(bins, bins_of(view, v));
        for (int i = 0; i < LANES; i++)
            mass[(i & 1) * BINS + bins[i]] += chances[i];
    }
    for (int bin = 0; bin < BINS; bin++)
        mass[bin] += mass[BINS + bin];
}

/* The candidates of one bin that have a chance of at least `least`. */
static int collect(const View *view, int bin, float least, List *list) {
    list->count = 0;
    for (int at = 0; at < view->count; at += LANES) {
        const vf v = values_at(view->values, at, view->count);
        uint32_t bits = vi_bits((vi)(bins_of(view, v) == bin));
        if (!bits)
            continue;
        const vf chance = chance_of(v, view->peak.most, view->rate);
        bits &= vi_bits((vi)(chance > 0.0f) & (vi)(chance >= least));
        if (reserve(list, LANES))
            return 1;
        for (; bits; bits &= bits - 1) {
            const int lane = __builtin_ctz(bits);
            const int id = view->ids ? view->ids[at + lane] : at + lane;
            list->items[list->count++] = (Item){v[lane], id, chance[lane]};
        }
    }
    return 0;
}

static double mass_of(const Item *items, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += items[i].chance;
    return sum;
}

/* Brings forward the items up to that at which their running sum in order of rank, from `sum` on,
   exceeds the goal, and returns where that one is; `count` if the sum never does. */
static int cross(Item *items, int count, double sum, double goal) {
    int first = 0, last = count;
    while (first < last) {
        const int middle = first + partition(items + first, last - first);
        const double left = sum + mass_of(items + first, middle - first);
        if (left > goal)
            last = middle;
        else if (left + items[middle].chance > goal)
            return middle;
        else {
            sum = left + items[middle].chance;
            first = middle + 1;
        }
    }
    if (last == count)
        return count;
    return last > 0 ? last - 1 : 0; /* two orders of the same sum were rounded apart */
}

/* The id of the item at which the running sum exceeds the goal, or of the last rank. */
static int32_t item_at(Item *items, int count, double sum, double goal) {
    const int at = cross(items, count, sum, goal);
    Item last = items[0];
    for (int i = 1; at == count && i < count; i++)
        last = ranks_before(last, items[i]) ? items[i] : last;
    return at == count ? last.id : items[at].id;
}

/* The bin in which the running sum first reaches the goal, or exceeds it; `sum`: of those before. */
static int bin_of(const double *mass, int bins, double goal, double *sum) {
    *sum = 0;
    for (int bin = 0; bin < bins; bin++) {
        if (*sum + mass[bin] > goal)
            return bin;
        *sum += mass[bin];
    }
    return bins;
}

static int last_bin(const View *view, float min_p) {
    if (!(min_p > 0))
        return BINS - 1;
    View nats = *view;
    nats.peak.most = 0;
    nats.rate = 1;
    return bins_of(&nats, vf_set(min_p < 1 ? logf(min_p) : 0))[0];
}

/* min-p and top-p cut the tail, `uniform` picks from what is left. */
static int draw_ranked(const View *view, float top_p, float min_p, double uniform, Scratch *s,
                       int32_t *token) {
    weigh(view, s->sums);
    double total = 0, before, sum;
    for (int bin = 0; bin < BINS; bin++)
        total += s->sums[bin];
    const double limit = top_p < 1 ? below(top_p * total) : INFINITY;
    int end = last_bin(view, min_p), left;
    end = bin_of(s->sums, end, limit, &before);
    if (collect(view, end, min_p, &s->list))
        return 1;
    left = cross(s->list.items, s->list.count, before, limit);
    left = left < s->list.count ? left + 1 : left;
    const double mass_left = before + mass_of(s->list.items, left);
    const double goal = fmin(uniform * mass_left, below(mass_left));
    const int bin = bin_of(s->sums, end, goal, &sum);
    *token = view->peak.id;
    if (bin < end) {
        if (collect(view, bin, 0, &s->list))
            return 1;
        left = s->list.count;
    }
    if (left)
        *token = item_at(s->list.items, left, sum, goal);
    return 0;
}

/* The same over all, in the order of ids: no bins, no ranks. */
static void draw_plain(const View *view, double uniform, double *sums, int32_t *token) {
    const int spans = (view->count - 1) / SPAN + 1;
    double total = 0, sum;
    for (int i = 0; i < spans; i++) {
        sums[i] = sum_of_span(view->values, i * SPAN, view->count, view->peak.most, view->rate);
        total += sums[i];
    }
    const double goal = fmin(uniform * total, below(total));
    const int start = bin_of(sums, spans - 1, goal, &sum) * SPAN;
    *token = view->peak.id;
    for (int at = start; at < end_of_span(start, view->count); at += LANES) {
        const vf chance = chance_of(values_at(view->values, at, view->count), view->peak.most,
                                    view->rate);
        for (int i = 0; i < LANES; i++) {
            sum += chance[i];
            if (chance[i] > 0)
                *token = at + i;
            if (sum > goal)
                return;
        }
    }
}

static int take_top(View *view, int top_k, Scratch *s) {
    if (best(view->values, view->count, top_k, &s->list))
        return 1;
    float *values = malloc(sizeof *values * (size_t)s->list.count);
    s->ids = malloc(sizeof *s->ids * (size_t)s->list.count);
    if (!values || !s->ids) {
        free(values);
        return 1;
    }
    for (int i = 0; i < s->list.count; i++) {
        values[i] = s->list.items[i].value;
        s->ids[i] = s->list.items[i].id;
    }
    free(s->values);
    s->values = values;
    view->values = values;
    view->ids = s->ids;
    view->count = s->list.count;
    return 0;
}

static int hide(const float *logits, const uint32_t *allowed, int count, Scratch *s) {
    s->values = malloc(sizeof *s->values * (size_t)count);
    if (!s->values)
        return 1;
    for (int i = 0; i < count; i++)
        s->values[i] = allowed[i / 32] >> i % 32 & 1 ? logits[i] : -INFINITY;
    return 0;
}

static int draw(const Step *step, int row, Scratch *s) {
    const int count = step->vocabulary, top_k = step->top_k[row];
    const float temperature = step->temperature[row];
    View view = {.values = step->logits + (ptrdiff_t)row * count, .count = count};
    if (step->allowed) {
        const ptrdiff_t words = (count - 1) / 32 + 1;
        if (hide(view.values, step->allowed + row * words, count, s))
            return 1;
        view.values = s->values;
    }
    view.peak = peak_of(view.values, count);
    step->out[row] = view.peak.nan || view.peak.most == -INFINITY ? -1 : view.peak.id;
    if (step->out[row] < 0 || view.peak.most == INFINITY || temperature == 0)
        return 0;
    view.rate = fminf(1 / temperature, 1e37f); /* times 0 it must stay 0 */
    const int plain = top_k <= 0 && step->top_p[row] >= 1 && step->min_p[row] <= 0;
    s->sums = malloc(sizeof *s->sums * (size_t)(2 * BINS + count / SPAN + 1));
    if (!s->sums)
        return 1;
    if (plain) {
        draw_plain(&view, step->uniform[row], s->sums, step->out + row);
        return 0;
    }
    if (top_k > 0 && top_k < count && take_top(&view, top_k, s))
        return 1;
    return draw_ranked(&view, step->top_p[row], step->min_p[row], step->uniform[row], s,
                       step->out + row);
}

static void run(void *context, int row) {
    Step *step = context;
    Scratch s = {0};
    if (draw(step, row, &s))
        atomic_store(&step->failed, 1);
    free(s.list.items);
    free(s.values);
    free(s.ids);
    free(s.sums);
}

/* A row's token is -1 where a logit is NaN or none is above -infinity. */
EXPORT int op_sample(const float *logits, int rows, int vocabulary, const float *temperature,
                     const int32_t *top_k, const float *top_p, const float *min_p,
                     const double *uniform, const uint32_t *allowed, int32_t *out) {
    Step step = {logits, rows,  vocabulary, temperature, top_p, min_p,
                 top_k,  uniform, allowed,  out,         0};
    if ((int64_t)rows * vocabulary < 1 << 14)
        for (int row = 0; row < rows; row++)
            run(&step, row);
    else
        parallel(rows, run, &step);
    return atomic_load(&step.failed);
}
