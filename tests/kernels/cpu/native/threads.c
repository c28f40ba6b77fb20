/* The pool: every task of a job runs once, whoever calls at the same time and however it shrinks. */
#include "threads.h"

#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { MOST = 10000, JOBS = 1500, RESIZES = 300 };

static void count(void *context, int index) {
    atomic_int *counts = context;
    atomic_fetch_add_explicit(&counts[index], 1, memory_order_relaxed);
}

static void once(atomic_int *counts, int tasks) {
    memset(counts, 0, sizeof *counts * (size_t)(tasks + 1));
    parallel(tasks, count, counts);
    for (int i = 0; i <= tasks; i++)
        if (counts[i] != (i < tasks))
            printf("pool: task %d of %d ran %d times\n", i, tasks, counts[i]), exit(1);
}

static void *call(void *seed) {
    atomic_int *counts = malloc(sizeof *counts * 65);
    unsigned number = (unsigned)(intptr_t)seed;
    for (int job = 0; job < JOBS; job++) {
        number = number * 1664525 + 1013904223;
        once(counts, (int)(number >> 26));
    }
    free(counts);
    return 0;
}

static void *resize(void *context) {
    static const int sizes[] = {1, 4, 2, 3, 1, 2};
    for (int i = 0; i < RESIZES; i++) {
        pool_resize(sizes[i % 6]);
        sched_yield();
    }
    return context;
}

/* Ends only if two threads run it. */
static void meet(void *context, int index) {
    atomic_int *met = context;
    atomic_fetch_add(met, 1 + 0 * index);
    while (atomic_load(met) < 2)
        sched_yield();
}

void check_threads(void) {
    const int threads = pool_threads();
    atomic_int *counts = malloc(sizeof *counts * (MOST + 1)), met = 0;
    static const int sizes[] = {0, 1, 2, 3, MOST, 1};
    for (int i = 0; i < 6; i++)
        once(counts, sizes[i]);
    free(counts);

    pthread_t others[3];
    pthread_create(&others[0], 0, call, (void *)1);
    pthread_create(&others[1], 0, call, (void *)2);
    pthread_create(&others[2], 0, resize, 0);
    call((void *)3);
    for (int i = 0; i < 3; i++)
        pthread_join(others[i], 0);

    pool_resize(2);
    parallel(2, meet, &met);
    pool_resize(-5);
    if (pool_threads() != 1)
        printf("pool: %d threads where there is one\n", pool_threads()), exit(1);
    pool_resize(threads);
}
