/* The pool's state is one word: which job, how many tasks, and the next of them to be taken. */
#define _GNU_SOURCE
#include "threads.h"
#include "export.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

/* How long an idle thread looks for a next job before it sleeps. Between two operations of a step
   the caller is away for some 5 us, between two steps for some 200. */
#define SPIN_NANOSECONDS 60000

enum { INDEX_BITS = 24, COUNT_BITS = 24 };
#define MASK(bits) ((UINT64_C(1) << (bits)) - 1)

typedef struct {
    _Atomic uint64_t ticket; /* job << 48 | count << 24 | next */
    _Atomic int unfinished;
    _Atomic int sleepers;
    _Atomic int threads;
    Task task;
    void *context;
    pthread_mutex_t caller; /* held by whoever's tasks run */
    pthread_mutex_t sleep;
    pthread_cond_t wake;
    int started; /* threads that exist beside the caller's */
} Pool;

static Pool pool = {
    .threads = 1,
    .caller = PTHREAD_MUTEX_INITIALIZER,
    .sleep = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
};

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int open_tasks(uint64_t ticket) {
    return (ticket & MASK(INDEX_BITS)) < (ticket >> INDEX_BITS & MASK(COUNT_BITS));
}

/* Takes tasks until none is left. A task that was taken keeps its job from ending, so the job's
   fields hold still while it runs. */
static void work(void) {
    uint64_t ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
    while (open_tasks(ticket)) {
        if (atomic_compare_exchange_weak_explicit(&pool.ticket, &ticket, ticket + 1,
                                                  memory_order_acq_rel, memory_order_acquire)) {
            pool.task(pool.context, (int)(ticket & MASK(INDEX_BITS)));
            atomic_fetch_sub_explicit(&pool.unfinished, 1, memory_order_acq_rel);
            ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
        }
    }
}

static void wait_for_job(int number) {
    int64_t end = now() + SPIN_NANOSECONDS;
    for (int i = 0; number < atomic_load(&pool.threads); i++) {
        if (open_tasks(atomic_load_explicit(&pool.ticket, memory_order_acquire)))
            return;
        relax();
        if (i % 64 == 63 && now() > end)
            break;
    }
    pthread_mutex_lock(&pool.sleep);
    atomic_fetch_add(&pool.sleepers, 1);
    while (number >= atomic_load(&pool.threads) || !open_tasks(atomic_load(&pool.ticket)))
        pthread_cond_wait(&pool.wake, &pool.sleep);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.sleep);
}

static void *run(void *number) {
    for (;;) {
        wait_for_job((int)(intptr_t)number);
        work();
    }
    return 0;
}

static void publish(int count, Task task, void *context) {
    uint64_t job = (atomic_load(&pool.ticket) >> (INDEX_BITS + COUNT_BITS)) + 1;
    pool.task = task;
    pool.context = context;
    atomic_store(&pool.unfinished, count);
    atomic_store(&pool.ticket, job << (INDEX_BITS + COUNT_BITS) | (uint64_t)count << INDEX_BITS);
    if (atomic_load(&pool.sleepers)) {
        pthread_mutex_lock(&pool.sleep);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.sleep);
    }
}

void parallel(int count, Task task, void *context) {
    if (count < 2 || atomic_load(&pool.threads) < 2 || pthread_mutex_trylock(&pool.caller)) {
        for (int i = 0; i < count; i++)
            task(context, i);
        return;
    }
    publish(count, task, context);
    work();
    for (int i = 1; atomic_load_explicit(&pool.unfinished, memory_order_acquire); i++) {
        relax();
        if (i % 1024 == 0) /* the thread that we wait for may need this very core */
            sched_yield();
    }
    pthread_mutex_unlock(&pool.caller);
}

void cut_in_parts(int items, int threads, Parts *parts) {
    int count = 0, start = 0;
    while (start < items) {
        const int left = items - start, last = count == MAX_PARTS - 1;
        parts->starts[count++] = start;
        start += threads < 2 || last ? left : 1 + (left - 1) / (3 * threads);
    }
    parts->starts[count] = items;
    parts->count = count;
}

EXPORT void pool_resize(int threads) {
    threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    pthread_mutex_lock(&pool.caller);
    for (; pool.started < threads - 1; pool.started++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, run, (void *)(intptr_t)(pool.started + 1)))
            break;
        pthread_detach(thread);
    }
    atomic_store(&pool.threads, pool.started + 1 < threads ? pool.started + 1 : threads);
    pthread_mutex_unlock(&pool.caller);
}

EXPORT int pool_threads(void) {
    return atomic_load(&pool.threads);
}
