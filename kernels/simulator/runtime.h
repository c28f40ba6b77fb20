// What the parts of the simulator's runtime share: the structures that dispatch.py mirrors, and the state of the
// dispatch in progress. One operating system thread runs one fiber for each GPU thread of one threadgroup at a time.
#pragma once
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

enum { LANES = 32, MAX_THREADS = 1024, MAX_SIMDGROUPS = MAX_THREADS / LANES, MAX_VARIABLES = 64 };
enum { MAX_PROBLEMS = 16, MAX_OPERATIONS = 64, MAX_ATOMIC_SITES = 64, MESSAGE_BYTES = 160 };
enum { THREADGROUP_LIMIT = 32 * 1024, ARENA_BYTES = 96 * 1024, RED_ZONE = 64 };
enum { HEADER_LINE = 1 << 20 }; // lines of the header are numbered from here (host.py)

enum Space { UNKNOWN, DEVICE, CONSTANT, THREADGROUP, PRIVATE };
enum Kind { LOAD, STORE, ATOMIC, KINDS };
enum Atomic { ATOMIC_LOAD, ATOMIC_STORE, ATOMIC_UPDATE };
enum Flags { MEM_DEVICE = 1, MEM_THREADGROUP = 2 };
enum Mode { COUNT = 1, CHECK = 2 }; // bits; neither is the fast mode

enum Fault {
    OUT_OF_BOUNDS = 1,
    RACE,
    UNINITIALISED,
    BARRIER,
    SIMD,
    THREADGROUP_MEMORY,
    TRAP,
    FAULT,
    UNINITIALISED_OUTPUT,
    ACROSS_THREADGROUPS,
    WRITE_TO_INPUT,
    ENDLESS,
    MISALIGNED,
};

extern "C" {

struct Context { // __msl_ctx of msl_runtime.h
    u32 thread_in_grid[3], thread_in_group[3], group_in_grid[3], groups[3], grid[3], group[3], full_group[3];
    u32 lane, simd, thread, simds, full_simds;
};

typedef void (*Entry)(void **buffers, const Context *context);
typedef void (*SimdFunction)(void **slots, u32 mask);

// Who last wrote and read one byte. Epochs count barriers; `simd` epochs count simdgroup barriers.
struct Cell {
    u32 write_epoch, read_epoch;
    u16 writer, reader; // a thread and flags
    u16 write_simd, read_simd;
};

struct Traffic {
    u64 requested[KINDS], moved[KINDS];
};

struct Buffer {
    u8 *base; // its first byte; `origin` is where the kernel's pointer points
    u64 size;
    u8 *low, *high; // with the guard pages
    u8 *origin;
    u32 writable, initialised;
    Cell *shadow;       // of check mode, for what may be written
    u64 *seen[KINDS];   // a bit a byte, in words of 64 bytes of address
    Traffic traffic;
};

struct Site {
    u32 space, kind, line, size, align;
};

struct SiteCount {
    u64 accesses, requested, moved, instances, lines, bank_cycles;
};

struct Problem {
    u32 kind, line, group[3], thread, other_thread, other_line, size, site;
    int64_t offset;
    int32_t buffer;
    char message[MESSAGE_BYTES];
};

struct Dispatch {
    Entry entry;
    void **arguments;
    u32 grid[3], group[3];
    Buffer *buffers;
    u32 buffer_count, mode;
    Site *sites; // with room for MAX_ATOMIC_SITES after the first site_count
    SiteCount *counts;
    u32 site_count, reverse, strict_simd, line_bytes;
    double seconds; // how long it may take
    // results
    u64 threads, threadgroups, threadgroup_barriers, simdgroup_barriers, operations[MAX_OPERATIONS];
    u64 matrix_flops, switches, divergent_simd, device_atomics, threadgroup_atomics, global_constant_bytes;
    Traffic threadgroup;
    u32 threadgroup_bytes, atomic_sites;
    u32 problem_count;
    u32 flush; // given: subnormal numbers are 0
    Problem problems[MAX_PROBLEMS];
};

#pragma GCC visibility push(default) // the rest is hidden
// What kernels call (msl_runtime.h) and what instrument.py adds to them.
u32 __msl_lane();
u32 __msl_simd(u32 site, u32 operation, void *slot, SimdFunction function);
void __msl_sg_barrier(u32 site, u32 flags);
void __msl_tg_barrier(u32 site, u32 flags);
void *__msl_tg_alloc(u32 site, u32 size, u32 align, const char *name);
void __msl_atomic(const void *at, u32 size, u32 line, u32 space_and_kind);
void __msl_count_mma(u32 flops);
void __msl_trap(u32 line, const char *message);
void __msl_ld(const void *at, u32 size, u32 site);
void __msl_st(const void *at, u32 size, u32 site);
[[noreturn]] void __msl_overrun(const void *array, u64 index, u32 site);
int msl_dispatch(Dispatch *dispatch);
u32 msl_size(u32 which);
#pragma GCC visibility pop
}

enum State { RUNNING, AT_SIMD, AT_BARRIER, DONE };

struct Fiber {
    void *stack_pointer;
    u32 state, site, operation, flags, mask;
    void *slot;
    SimdFunction function;
    Context context;
};

struct Simdgroup { // bits of lanes
    u32 alive, runnable, at_simd, born;
    u16 threadgroup_epoch, device_epoch; // of simdgroup barriers
};

struct Variable {
    u32 site, offset, size;
    const char *name;
};

extern Dispatch *dispatch;
extern Fiber *current;
extern bool aborted;
extern Simdgroup simdgroups[MAX_SIMDGROUPS];
extern u32 threadgroup_epoch, device_epoch, group_epoch; // of barriers; the last at the group's start
extern u8 *arena, *stacks;
extern u32 arena_used, variable_count;
extern Variable variables[MAX_VARIABLES];

enum { NO_BUFFER = ~0u }; // of an access to threadgroup memory
enum { STACK_BYTES = 64 * 1024, GUARD_BYTES = 4096 };

void allocate_stacks();                    // fibers
u32 run_group(const u32 at[3]);            // fibers; the number of its threads
[[noreturn]] void leave();                 // fibers; to the scheduler, for good
void allocate_arena();                     // memory
void begin_memory();                       // memory; of a dispatch
void begin_group_memory();                 // memory
void end_group_memory();                   // memory; were the red zones written to?
Problem *problem(u32 kind, u32 line);      // dispatch; null where there are too many
void flush_log();                          // log; the instructions since the last synchronisation
void begin_log(u32 sites);                 // log
