// One dispatch from beginning to end: its threadgroups in turn, memory faults caught, endless kernels ended.
#include "runtime.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SIGNAL_STACK_BYTES = 64 * 1024, TICK_NANOSECONDS = 50 * 1000 * 1000 };
enum { TIME_OVER = SIGURG }; // ignored where no handler is installed, so one that comes late does no harm

Dispatch *dispatch;

static sigjmp_buf escape;
static volatile sig_atomic_t running;
static volatile sig_atomic_t signal_number;
static u8 *volatile fault_address;

// The watch: one thread of its own that looks now and then whether the dispatch takes too long.
static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_begins = PTHREAD_COND_INITIALIZER;
static bool watched;
static double deadline;
static pthread_t watched_thread;
static pid_t watch_process; // a forked child has no such thread yet

static double now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void *watch(void *) {
    const timespec tick = {0, TICK_NANOSECONDS};
    for (;;) {
        pthread_mutex_lock(&watch_lock);
        while (!watched)
            pthread_cond_wait(&watch_begins, &watch_lock);
        if (now() > deadline)
            pthread_kill(watched_thread, TIME_OVER);
        pthread_mutex_unlock(&watch_lock);
        nanosleep(&tick, nullptr);
    }
    return nullptr;
}

static void begin_watch(double seconds) {
    if (watch_process != getpid()) {
        watch_process = getpid();
        watch_lock = PTHREAD_MUTEX_INITIALIZER;
        watch_begins = PTHREAD_COND_INITIALIZER;
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before); // the process's signals are not for this thread
        pthread_t thread;
        if (!pthread_create(&thread, nullptr, watch, nullptr))
            pthread_detach(thread);
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    pthread_mutex_lock(&watch_lock);
    deadline = now() + seconds;
    watched_thread = pthread_self();
    watched = true;
    pthread_cond_signal(&watch_begins);
    pthread_mutex_unlock(&watch_lock);
}

static void end_watch() {
    pthread_mutex_lock(&watch_lock);
    watched = false;
    pthread_mutex_unlock(&watch_lock);
}

Problem *problem(u32 kind, u32 line) {
    if (dispatch->problem_count >= MAX_PROBLEMS) {
        dispatch->problem_count++;
        return nullptr;
    }
    Problem *found = &dispatch->problems[dispatch->problem_count++];
    memset(found, 0, sizeof *found);
    found->kind = kind;
    found->line = line;
    found->buffer = -1;
    if (current) {
        memcpy(found->group, current->context.group_in_grid, sizeof found->group);
        found->thread = current->context.thread;
    }
    return found;
}

extern "C" void __msl_trap(u32 line, const char *message) {
    Problem *found = problem(TRAP, line);
    if (found)
        snprintf(found->message, sizeof found->message, "%s", message);
    aborted = true;
    leave();
}

extern "C" void __msl_count_mma(u32 flops) {
    dispatch->matrix_flops += flops;
}

static void on_signal(int number, siginfo_t *info, void *) {
    if (!running) {
        if (number != TIME_OVER)
            signal(number, SIG_DFL); // not ours: it happens again, and then as it would without us
        return;
    }
    signal_number = number;
    fault_address = (u8 *)info->si_addr;
    siglongjmp(escape, 1);
}

static void report_fault() {
    if (signal_number == TIME_OVER) {
        Problem *found = problem(ENDLESS, 0);
        if (found)
            snprintf(found->message, sizeof found->message, "the kernel had not ended after %g seconds",
                     dispatch->seconds);
        return;
    }
    Problem *found = problem(FAULT, 0);
    if (!found)
        return;
    if (signal_number == SIGFPE || signal_number == SIGILL) {
        snprintf(found->message, sizeof found->message, "%s",
                 signal_number == SIGFPE ? "integer division by zero" : "what C++ leaves undefined");
        return;
    }
    u8 *at = fault_address;
    if (at >= stacks && at < stacks + (u64)MAX_THREADS * STACK_BYTES)
        snprintf(found->message, sizeof found->message, "stack overflow in a GPU thread");
    else
        snprintf(found->message, sizeof found->message, "access outside of every buffer");
    for (u32 i = 0; i < dispatch->buffer_count; i++) {
        const Buffer *buffer = &dispatch->buffers[i];
        if (at < buffer->low || at >= buffer->high)
            continue;
        found->kind = OUT_OF_BOUNDS;
        found->buffer = (int32_t)i;
        found->offset = at - buffer->origin;
        found->message[0] = 0;
    }
}

static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, TIME_OVER};
enum { SIGNAL_COUNT = sizeof SIGNALS / sizeof *SIGNALS };

struct Handlers {
    stack_t stack;
    struct sigaction actions[SIGNAL_COUNT];
};

static void install(Handlers *before) {
    static u8 *memory;
    if (!memory)
        memory = (u8 *)malloc(SIGNAL_STACK_BYTES);
    stack_t stack = {};
    stack.ss_sp = memory;
    stack.ss_size = SIGNAL_STACK_BYTES;
    sigaltstack(&stack, &before->stack);
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < SIGNAL_COUNT; i++)
        sigaction(SIGNALS[i], &action, &before->actions[i]);
}

static void restore(const Handlers *before) {
    for (int i = 0; i < SIGNAL_COUNT; i++)
        sigaction(SIGNALS[i], &before->actions[i], nullptr);
    sigaltstack(&before->stack, nullptr);
}

// What becomes of subnormal numbers is a state of the processor; returns the one before.
static u64 flush_subnormals(bool flush, u64 before) {
#if defined(__x86_64__)
    u32 state = before ? (u32)before : __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(flush ? state | 0x8040 : state);
    return state;
#else
    u64 state = before;
    if (!before)
        asm volatile("mrs %0, fpcr" : "=r"(state));
    asm volatile("msr fpcr, %0" : : "r"(flush ? state | 1u << 24 : state));
    return state;
#endif
}

static void run_groups() {
    u32 groups[3];
    if (!dispatch->grid[0] || !dispatch->grid[1] || !dispatch->grid[2])
        return;
    for (int i = 0; i < 3; i++)
        groups[i] = (dispatch->grid[i] + dispatch->group[i] - 1) / dispatch->group[i];
    const u64 total = (u64)groups[0] * groups[1] * groups[2];
    for (u64 i = 0; i < total && !aborted; i++) {
        const u64 number = dispatch->reverse ? total - 1 - i : i;
        const u32 at[3] = {(u32)(number % groups[0]), (u32)(number / groups[0] % groups[1]),
                           (u32)(number / groups[0] / groups[1])};
        dispatch->threads += run_group(at);
        dispatch->threadgroups++;
        if (!aborted)
            end_group_memory();
    }
}

extern "C" int msl_dispatch(Dispatch *wanted) {
    dispatch = wanted;
    aborted = false;
    current = nullptr;
    allocate_stacks();
    allocate_arena();
    begin_memory();
    begin_log(dispatch->site_count + MAX_ATOMIC_SITES);
    Handlers before;
    install(&before);
    begin_watch(dispatch->seconds);
    const u64 arithmetic = flush_subnormals(dispatch->flush, 0);
    if (sigsetjmp(escape, 1) == 0) {
        running = 1;
        run_groups();
        running = 0;
    } else {
        running = 0;
        report_fault();
    }
    flush_subnormals(false, arithmetic);
    end_watch();
    restore(&before);
    return dispatch->problem_count ? 1 : 0;
}

extern "C" u32 msl_size(u32 which) {
    const u32 sizes[] = {sizeof(Dispatch), sizeof(Buffer), sizeof(Problem), sizeof(Site), sizeof(SiteCount), sizeof(Cell)};
    return sizes[which];
}
