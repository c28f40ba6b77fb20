/* One pool of threads for all operations: tasks are taken one at a time, and idle threads sleep. */
#pragma once

typedef void (*Task)(void *context, int index);

/* Runs task(context, 0 .. count - 1) and returns when all are done. Called while another thread's
   tasks run, it runs its own in the caller alone. Tasks must not call it. */
void parallel(int count, Task task, void *context);

/* How many threads take tasks, the caller's included; 1 to MOST_THREADS. */
enum { MOST_THREADS = 256 };
void pool_resize(int threads);
int pool_threads(void);
