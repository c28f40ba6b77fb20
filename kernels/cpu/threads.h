/* One pool of threads for all operations: tasks are taken one at a time, and idle threads sleep. */
#pragma once

typedef void (*Task)(void *context, int index);

/* Runs task(context, 0 .. count - 1) and returns when all are done. Called while another thread's
   tasks run, it runs its own in the caller alone. Tasks must not call it. */
void parallel(int count, Task task, void *context);

/* A row of items in parts for tasks: large ones first, so that a part is a long run of memory, and
   small ones last, so that nobody is waited for. Part i is starts[i] to starts[i + 1]. */
enum { MAX_PARTS = 64 };
typedef struct {
    int count, starts[MAX_PARTS + 1];
} Parts;

void cut_in_parts(int items, int threads, Parts *parts);

/* How many threads take tasks, the caller's included; 1 to MAX_THREADS. */
enum { MAX_THREADS = 256 };
void pool_resize(int threads);
int pool_threads(void);
