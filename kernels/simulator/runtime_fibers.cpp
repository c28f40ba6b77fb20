// Fibers, and who runs when: a lane runs until it waits; then the next lane of its simdgroup does.
//
// A simdgroup operation posts a slot and waits. When no lane of the simdgroup can run, the lanes that wait at one site
// are served together: the last to arrive computes for all. Threadgroup barriers wait for every live thread.
#include "runtime.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { SIMD_BARRIER = ~0u };

#if defined(__APPLE__)
#define SYMBOL "_msl_switch"
#define HIDDEN ".private_extern _msl_switch\n"
#else
#define SYMBOL "msl_switch"
#define HIDDEN ".hidden msl_switch\n"
#endif

// msl_switch(save, to): keeps this stack pointer in *save and goes on where `to` was kept.
#if defined(__x86_64__)
enum { SAVED_WORDS = 8, START_WORD = 6 };
asm(".text\n.globl " SYMBOL "\n" HIDDEN SYMBOL ":\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\npopq %rcx\njmp *%rcx\n");
#elif defined(__aarch64__)
enum { SAVED_WORDS = 20, START_WORD = 11 };
asm(".text\n.globl " SYMBOL "\n" HIDDEN ".p2align 2\n" SYMBOL ":\n"
    "sub sp,sp,#160\n"
    "stp x19,x20,[sp,#0]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
    "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\n"
    "stp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\n"
    "mov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
    "ldp x19,x20,[sp,#0]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\n"
    "ldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\n"
    "ldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\n"
    "add sp,sp,#160\nret\n");
#else
#error "the simulator switches stacks on x86-64 and aarch64 only"
#endif
extern "C" void msl_switch(void **save, void *to);

Fiber *current;
bool aborted;
Simdgroup simdgroups[MAX_SIMDGROUPS];
u32 threadgroup_epoch, device_epoch, group_epoch;
u8 *stacks;

static Fiber fibers[MAX_THREADS];
static Fiber outside; // stands for the scheduler where an operation is served from there
static void *scheduler_stack;
static u32 thread_count, simd_count;

[[noreturn]] void leave() {
    void *ignored;
    msl_switch(&ignored, scheduler_stack);
    __builtin_unreachable();
}

static Fiber *lane_of(const Simdgroup *group, u32 lane) {
    return &fibers[(group - simdgroups) * LANES + lane];
}

static u32 bit_of(u32 lane) {
    return 1u << lane;
}

// The next that can run after this lane, going round; 32 where none can.
static u32 next_lane(const Simdgroup *group, u32 lane) {
    const u32 later = lane == LANES - 1 ? 0 : group->runnable & ~((2u << lane) - 1);
    const u32 lanes = later ? later : group->runnable;
    return lanes ? __builtin_ctz(lanes) : LANES;
}

static void run_after(void **save, u32 lane, const Simdgroup *group) {
    dispatch->switches++;
    if (lane == LANES) {
        msl_switch(save, scheduler_stack);
        return;
    }
    Fiber *next = lane_of(group, lane);
    current = next;
    msl_switch(save, next->stack_pointer);
}

static void report_divergence(u32 site, u32 served, const Simdgroup *group, const Fiber *leader) {
    const u32 elsewhere = group->alive & ~served;
    Problem *found = problem(SIMD, site >> 8);
    aborted = true;
    if (!found)
        return;
    memcpy(found->group, leader->context.group_in_grid, sizeof found->group);
    found->thread = leader->context.thread;
    if (elsewhere)
        snprintf(found->message, sizeof found->message,
                 "simdgroup operation executed by lanes 0x%08x while live lanes 0x%08x are elsewhere", served, elsewhere);
    else
        snprintf(found->message, sizeof found->message,
                 "simdgroup operation executed by lanes 0x%08x after lanes 0x%08x have returned", served,
                 group->born & ~group->alive);
}

// The waiting lanes at the first site in the text, and whether others wait at another.
static u32 lanes_at_first_site(const Simdgroup *group, u32 *site, bool *others) {
    *site = ~0u;
    *others = false;
    for (u32 lanes = group->at_simd; lanes; lanes &= lanes - 1) {
        const u32 at = lane_of(group, __builtin_ctz(lanes))->site;
        *others |= *site != ~0u && at != *site;
        if (at < *site)
            *site = at;
    }
    u32 served = 0;
    for (u32 lanes = group->at_simd; lanes; lanes &= lanes - 1) {
        const u32 lane = __builtin_ctz(lanes);
        if (lane_of(group, lane)->site == *site)
            served |= bit_of(lane);
    }
    return served;
}

static void compute(const Simdgroup *group, u32 served, const Fiber *leader) {
    void *slots[LANES] = {};
    for (u32 lanes = served; lanes; lanes &= lanes - 1) {
        const u32 lane = __builtin_ctz(lanes);
        slots[lane] = lane_of(group, lane)->slot;
    }
    dispatch->operations[leader->operation % MAX_OPERATIONS]++;
    Fiber *self = current;
    leader->function(slots, served);
    current = self;
}

// All live lanes wait: those at one simdgroup operation are served.
static void serve(Simdgroup *group) {
    u32 site;
    bool others;
    const u32 served = lanes_at_first_site(group, &site, &others);
    const Fiber *leader = lane_of(group, __builtin_ctz(served));
    if (others || group->born & ~served) {
        dispatch->divergent_simd++;
        if (dispatch->strict_simd) {
            report_divergence(site, served, group, leader);
            return;
        }
    }
    if (dispatch->mode)
        flush_log();
    if (leader->operation == SIMD_BARRIER) {
        dispatch->simdgroup_barriers++;
        group->threadgroup_epoch += (leader->flags & MEM_THREADGROUP) != 0;
        group->device_epoch += (leader->flags & MEM_DEVICE) != 0;
    } else
        compute(group, served, leader);
    for (u32 lanes = served; lanes; lanes &= lanes - 1) {
        Fiber *fiber = lane_of(group, __builtin_ctz(lanes));
        fiber->state = RUNNING;
        fiber->mask = served;
    }
    group->at_simd &= ~served;
    group->runnable |= served;
}

static void wait_at(u32 state) {
    Fiber *self = current;
    const u32 lane = self->context.lane;
    Simdgroup *group = &simdgroups[self->context.simd];
    group->runnable &= ~bit_of(lane);
    self->state = state;
    if (state == AT_SIMD)
        group->at_simd |= bit_of(lane);
    u32 next = next_lane(group, lane);
    if (next == LANES && group->at_simd) {
        serve(group);
        if (aborted)
            leave();
        next = __builtin_ctz(group->runnable);
        if (next == lane)
            return;
    }
    run_after(&self->stack_pointer, next, group);
}

extern "C" u32 __msl_lane() {
    return current->context.lane;
}

extern "C" u32 __msl_simd(u32 site, u32 operation, void *slot, SimdFunction function) {
    Fiber *self = current;
    self->site = site;
    self->operation = operation;
    self->slot = slot;
    self->function = function;
    wait_at(AT_SIMD);
    return self->mask;
}

extern "C" void __msl_sg_barrier(u32 site, u32 flags) {
    current->site = site;
    current->operation = SIMD_BARRIER;
    current->flags = flags;
    wait_at(AT_SIMD);
}

extern "C" void __msl_tg_barrier(u32 site, u32 flags) {
    current->site = site;
    current->flags = flags;
    wait_at(AT_BARRIER);
}

static void fiber_main() {
    Fiber *self = current;
    dispatch->entry(dispatch->arguments, &self->context);
    Simdgroup *group = &simdgroups[self->context.simd];
    const u32 bit = bit_of(self->context.lane);
    group->alive &= ~bit;
    group->runnable &= ~bit;
    self->state = DONE;
    if (!group->runnable && group->at_simd) {
        serve(group);
        if (aborted)
            leave();
    }
    run_after(&self->stack_pointer, next_lane(group, self->context.lane), group);
    __builtin_unreachable();
}

// Stack tops at one stride would share cache sets: they are spread over a page.
static void *fresh_stack(u32 thread) {
    const u64 top = (u64)stacks + (u64)(thread + 1) * STACK_BYTES - GUARD_BYTES - (thread * 832 & 3968);
    u64 *at = (u64 *)(top & ~63ull) - SAVED_WORDS;
    memset(at, 0, SAVED_WORDS * sizeof *at);
    at[START_WORD] = (u64)fiber_main;
    return at;
}

static void start_thread(u32 thread, const u32 position[3], const u32 at[3], const u32 size[3], const u32 groups[3]) {
    Fiber *fiber = &fibers[thread];
    fiber->state = RUNNING;
    fiber->stack_pointer = fresh_stack(thread);
    Context *context = &fiber->context;
    u32 full = 1;
    for (int i = 0; i < 3; i++) {
        context->thread_in_group[i] = position[i];
        context->group_in_grid[i] = at[i];
        context->thread_in_grid[i] = at[i] * dispatch->group[i] + position[i];
        context->groups[i] = groups[i];
        context->grid[i] = dispatch->grid[i];
        context->group[i] = size[i];
        context->full_group[i] = dispatch->group[i];
        full *= dispatch->group[i];
    }
    context->lane = thread % LANES;
    context->simd = thread / LANES;
    context->thread = thread;
    context->simds = simd_count;
    context->full_simds = (full + LANES - 1) / LANES;
}

static void start_group(const u32 at[3]) {
    u32 size[3], groups[3];
    for (int i = 0; i < 3; i++) {
        const u32 first = at[i] * dispatch->group[i], left = dispatch->grid[i] - first;
        size[i] = left < dispatch->group[i] ? left : dispatch->group[i];
        groups[i] = (dispatch->grid[i] + dispatch->group[i] - 1) / dispatch->group[i];
    }
    thread_count = size[0] * size[1] * size[2];
    simd_count = (thread_count + LANES - 1) / LANES;
    const u32 latest = threadgroup_epoch > device_epoch ? threadgroup_epoch : device_epoch;
    threadgroup_epoch = device_epoch = group_epoch = latest + 1;
    begin_group_memory();
    u32 thread = 0, position[3];
    for (position[2] = 0; position[2] < size[2]; position[2]++)
        for (position[1] = 0; position[1] < size[1]; position[1]++)
            for (position[0] = 0; position[0] < size[0]; position[0]++)
                start_thread(thread++, position, at, size, groups);
    for (u32 simd = 0; simd < simd_count; simd++) {
        const u32 lanes = thread_count - simd * LANES;
        const u32 bits = lanes >= LANES ? ~0u : bit_of(lanes) - 1;
        simdgroups[simd] = {bits, bits, 0, bits, 0, 0};
    }
}

// Until each of its lanes is done or waits at a threadgroup barrier. False where the dispatch is over.
static bool run_simdgroup(Simdgroup *group) {
    while (group->runnable || group->at_simd) {
        if (!group->runnable) {
            current = &outside;
            serve(group);
        } else {
            current = lane_of(group, __builtin_ctz(group->runnable));
            dispatch->switches++;
            msl_switch(&scheduler_stack, current->stack_pointer);
        }
        if (aborted)
            return false;
    }
    if (dispatch->mode)
        flush_log();
    return true;
}

static void report_barrier(Fiber *waits, const Fiber *other, const Fiber *done, u32 waiting) {
    current = waits;
    aborted = true;
    Problem *found = problem(BARRIER, waits->site >> 8);
    if (!found)
        return;
    const u32 line = (waits->site >> 8) % HEADER_LINE;
    found->other_thread = (other ? other : done)->context.thread;
    if (other) {
        found->other_line = other->site >> 8;
        snprintf(found->message, sizeof found->message,
                 "threadgroup_barrier divergence: thread %u waits at line %u, thread %u at line %u",
                 waits->context.thread, line, other->context.thread, found->other_line % HEADER_LINE);
    } else
        snprintf(found->message, sizeof found->message,
                 "threadgroup_barrier divergence: %u of %u threads wait at line %u, thread %u has already returned",
                 waiting, thread_count, line, done->context.thread);
}

// All live threads wait at a threadgroup barrier, or all are done. False where the group is over.
static bool pass_barrier() {
    Fiber *first = nullptr, *other = nullptr, *done = nullptr;
    u32 waiting = 0, flags = 0;
    for (u32 thread = 0; thread < thread_count; thread++) {
        Fiber *fiber = &fibers[thread];
        if (fiber->state != AT_BARRIER) {
            done = done ? done : fiber;
            continue;
        }
        waiting++;
        flags |= fiber->flags;
        first = first ? first : fiber;
        if (fiber->site != first->site && !other)
            other = fiber;
    }
    if (!waiting)
        return false;
    if (other || done) {
        report_barrier(first, other, done, waiting);
        return false;
    }
    dispatch->threadgroup_barriers++;
    threadgroup_epoch += (flags & MEM_THREADGROUP) != 0;
    device_epoch += (flags & MEM_DEVICE) != 0;
    for (u32 thread = 0; thread < thread_count; thread++)
        fibers[thread].state = RUNNING;
    for (u32 simd = 0; simd < simd_count; simd++)
        simdgroups[simd].runnable = simdgroups[simd].alive;
    return true;
}

void allocate_stacks() {
    if (stacks)
        return;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    stacks = (u8 *)mmap(nullptr, (u64)MAX_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    for (u32 thread = 0; thread < MAX_THREADS; thread++)
        mprotect(stacks + (u64)thread * STACK_BYTES, GUARD_BYTES, PROT_NONE);
}

u32 run_group(const u32 at[3]) {
    start_group(at);
    do {
        for (u32 i = 0; i < simd_count; i++) {
            const u32 simd = dispatch->reverse ? simd_count - 1 - i : i;
            if (!run_simdgroup(&simdgroups[simd]))
                return thread_count;
        }
    } while (pass_barrier());
    return thread_count;
}
