/* Picking from a row of a vocabulary without sorting it: items rank by value, equal ones by id. */
#pragma once
#include "simd.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    float value;
    int32_t id;
    float chance; /* before it is divided by their sum */
} Item;

typedef struct {
    Item *items;
    int count, capacity;
} List;

/* LANES values from `at` on; what lies beyond `count` is -infinity. */
INLINE vf values_at(const float *values, int at, int count) {
    if (count - at >= LANES)
        return vf_load(values + at);
    float lanes[LANES] ALIGNED;
    for (int i = 0; i < LANES; i++)
        lanes[i] = i < count - at ? values[at + i] : -INFINITY;
    return vf_load(lanes);
}

INLINE int ranks_before(Item a, Item b) {
    return (a.value > b.value) | ((a.value == b.value) & (a.id < b.id));
}

INLINE void swap(Item *a, Item *b) {
    Item first_item = *a;
    *a = *b;
    *b = first_item;
}

/* Makes room for `more` items; 0, or 1 where memory is short. */
INLINE int reserve(List *list, int more) {
    if (list->count + more <= list->capacity)
        return 0;
    const int capacity = 2 * list->capacity + more;
    Item *items = realloc(list->items, (size_t)capacity * sizeof *items);
    if (!items)
        return 1;
    list->items = items;
    list->capacity = capacity;
    return 0;
}

/* Moves what ranks before some item in front of it; returns where that item now is. */
INLINE int partition(Item *items, int count) {
    Item *last = items + count - 1, *middle = items + count / 2;
    if (ranks_before(*middle, *items))
        swap(middle, items);
    if (ranks_before(*last, *items))
        swap(last, items);
    if (ranks_before(*middle, *last)) /* the median is put last */
        swap(middle, last);
    const Item pivot = *last;
    int end = 0;
    for (int i = 0; i < count - 1; i++) {
        const Item item = items[i]; /* written without a branch, which would be guessed wrong */
        items[i] = items[end];
        items[end] = item;
        end += ranks_before(item, pivot);
    }
    swap(items + end, last);
    return end;
}

/* Moves the `wanted` first ranks to the front. */
INLINE void bring_forward(Item *items, int count, int wanted) {
    int first = 0, last = count;
    while (first < wanted && wanted < last) {
        const int middle = first + partition(items + first, last - first);
        if (middle >= wanted)
            last = middle;
        else
            first = middle + 1;
    }
}

INLINE void sort_few(Item *items, int count) {
    for (int i = 1; i < count; i++)
        for (int j = i; j > 0 && ranks_before(items[j], items[j - 1]); j--)
            swap(items + j, items + j - 1);
}

/* The `wanted` first ranks of a row without NaN, at the front of the list and in no order. */
INLINE int best(const float *values, int count, int wanted, List *list) {
    vf threshold = vf_set(NAN); /* above which an item may still be among them; at first, any */
    wanted = wanted < count ? wanted : count;
    list->count = 0;
    if (reserve(list, 2 * wanted + 256))
        return 1;
    for (int at = 0; at < count; at += LANES) {
        uint32_t bits = vi_bits(~(vi)(values_at(values, at, count) <= threshold));
        if (!bits)
            continue;
        if (count - at < LANES)
            bits &= (1u << (count - at)) - 1;
        for (; bits; bits &= bits - 1) {
            const int id = at + __builtin_ctz(bits);
            list->items[list->count++] = (Item){values[id], id, 0};
        }
        if (list->count + LANES > list->capacity) {
            bring_forward(list->items, list->count, wanted);
            list->count = wanted;
            float least = list->items[0].value;
            for (int i = 1; i < wanted; i++)
                least = list->items[i].value < least ? list->items[i].value : least;
            threshold = vf_set(least);
        }
    }
    bring_forward(list->items, list->count, wanted);
    list->count = wanted < list->count ? wanted : list->count;
    return 0;
}

typedef struct {
    float most;
    int id;  /* of the first that equals it */
    int nan; /* whether any is */
} Peak;

enum { SPAN = 1024 }; /* values that are summed or searched together */

INLINE int end_of_span(int start, int count) {
    return count - start < SPAN ? count : start + SPAN;
}

INLINE Peak peak_of(const float *values, int count) {
    Peak peak = {-INFINITY, 0, 0};
    int peak_start = 0;
    vi nan = {0};
    for (int start = 0; start < count; start += SPAN) {
        vf most = vf_set(-INFINITY);
        for (int at = start; at < end_of_span(start, count); at += LANES) {
            vf v = values_at(values, at, count);
            nan |= (vi)(v != v);
            most = vf_max(most, v);
        }
        if (vf_most(most) > peak.most) {
            peak.most = vf_most(most);
            peak_start = start;
        }
    }
    peak.nan = vi_bits(nan) != 0;
    for (int i = peak_start; !peak.nan && i < end_of_span(peak_start, count); i++)
        if (values[i] == peak.most) {
            peak.id = i;
            break;
        }
    return peak;
}

/* e^((v - most) * rate): the chance of v against that of the likeliest. */
INLINE vf chance_of(vf v, float most, float rate) {
    return vf_exp((v - most) * rate);
}

INLINE double sum_of_span(const float *values, int start, int count, float most, float rate) {
    vf sum = {0};
    for (int at = start; at < end_of_span(start, count); at += LANES)
        sum += chance_of(values_at(values, at, count), most, rate);
    return vf_sum(sum);
}
