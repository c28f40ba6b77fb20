// Threadgroup memory, and every access in the count and check modes: bounds, then shadow cells for races.
#include "runtime_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 128, POISON = 0xff };
enum { LATE_EPOCH = 0x80000000u };

// Flags of a cell's writer and reader, beside the thread's number.
enum { THREAD_BITS = 0x3ff, BY_ATOMIC = 0x8000, BY_UPDATE = 0x4000 };
enum { SEVERAL_LANES = 0x1000, SEVERAL_SIMDS = 0x2000, EARLIER_GROUP = 0x4000 };

u8 *arena;
u32 arena_used, variable_count;
Variable variables[MAX_VARIABLES];

enum { MOST_WAITS = 1 << 16 }; // loads of one atomic, one after another, before a thread is said to wait

static const void *waited_for; // the atomic that was loaded last, by whom, how often in a row
static u32 waiting_thread, waits;

static Cell *arena_shadow;
static u32 arena_dirty; // to where it may hold other bytes than the poison
static u32 *last_buffer; // of each site
static u32 last_buffer_count;

void allocate_arena() {
    if (arena)
        return;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    u8 *memory = (u8 *)mmap(nullptr, ARENA_BYTES + 2 * GUARD_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    mprotect(memory, GUARD_BYTES, PROT_NONE);
    mprotect(memory + GUARD_BYTES + ARENA_BYTES, GUARD_BYTES, PROT_NONE);
    arena = memory + GUARD_BYTES;
    arena_dirty = ARENA_BYTES;
    arena_shadow = (Cell *)mmap(nullptr, ARENA_BYTES * sizeof(Cell), PROT_READ | PROT_WRITE, flags, -1, 0);
}

void begin_memory() {
    arena_dirty = ARENA_BYTES;
    const u32 sites = dispatch->site_count + MAX_ATOMIC_SITES;
    if (sites > last_buffer_count) {
        last_buffer = (u32 *)realloc(last_buffer, sites * sizeof *last_buffer);
        last_buffer_count = sites;
    }
    memset(last_buffer, 0, last_buffer_count * sizeof *last_buffer);
    if (threadgroup_epoch < LATE_EPOCH && device_epoch < LATE_EPOCH)
        return;
    threadgroup_epoch = device_epoch = 0;
    memset(arena_shadow, 0, ARENA_BYTES * sizeof *arena_shadow);
}

void begin_group_memory() {
    memset(arena, POISON, arena_dirty);
    arena_dirty = 0;
    arena_used = RED_ZONE;
    variable_count = 0;
}

static bool is_poison(const u8 *at, u32 size) {
    for (u32 i = 0; i < size; i++)
        if (at[i] != POISON)
            return false;
    return true;
}

void end_group_memory() {
    for (u32 i = 0; i < variable_count; i++) {
        const Variable *variable = &variables[i];
        const u8 *first = arena + variable->offset;
        const bool before = !is_poison(first - RED_ZONE, RED_ZONE);
        if (!before && is_poison(first + variable->size, RED_ZONE))
            continue;
        Problem *found = problem(OUT_OF_BOUNDS, 0);
        if (found)
            snprintf(found->message, sizeof found->message, "write %s threadgroup array '%s' (%u bytes)",
                     before ? "before" : "after", variable->name, variable->size);
        aborted = true;
        return;
    }
}

static void refuse_variable(u32 bytes, const char *name) {
    Problem *found = problem(THREADGROUP_MEMORY, 0);
    if (found)
        snprintf(found->message, sizeof found->message, "threadgroup memory of %u bytes exceeds 32 KiB (at '%s')", bytes,
                 name);
    aborted = true;
    leave();
}

extern "C" void *__msl_tg_alloc(u32 site, u32 size, u32 align, const char *name) {
    (void)align;
    u32 bytes = size;
    for (u32 i = 0; i < variable_count; i++) {
        if (variables[i].site == site)
            return arena + variables[i].offset;
        bytes += (variables[i].size + 15) & ~15u;
    }
    if (bytes > dispatch->threadgroup_bytes)
        dispatch->threadgroup_bytes = bytes;
    const u32 offset = (arena_used + RED_ZONE + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    if (bytes > THREADGROUP_LIMIT || variable_count == MAX_VARIABLES || offset + size + RED_ZONE > ARENA_BYTES)
        refuse_variable(bytes, name);
    variables[variable_count++] = {site, offset, size, name};
    arena_used = offset + size;
    arena_dirty = arena_used + RED_ZONE;
    return arena + offset;
}

// ---------------------------------------------------------------- one access

struct Access {
    const u8 *at;
    u32 size, site, line, space, kind, atomic;
    bool writes;
};

static Problem *problem_at(u32 kind, const Access *access) {
    Problem *found = problem(kind, access->line);
    if (found) {
        found->size = access->size;
        found->site = access->site;
    }
    return found;
}

static void describe_variable(Problem *found, const Access *access) {
    if (!variable_count) {
        snprintf(found->message, sizeof found->message, "threadgroup memory that no variable has");
        return;
    }
    u32 nearest = 0;
    for (u32 i = 0; i < variable_count; i++)
        if (arena + variables[i].offset <= access->at)
            nearest = i;
    const Variable *variable = &variables[nearest];
    snprintf(found->message, sizeof found->message, "threadgroup array '%s' (%u bytes): byte offset %ld", variable->name,
             variable->size, (long)(access->at - arena) - (long)variable->offset);
}

[[noreturn]] static __attribute__((noinline)) void fail(const Access *access, u32 kind) {
    Problem *found = problem_at(kind, access);
    aborted = true;
    if (found && access->at >= arena && access->at < arena + ARENA_BYTES)
        describe_variable(found, access);
    else if (found) {
        for (u32 i = 0; i < dispatch->buffer_count; i++)
            if (access->at >= dispatch->buffers[i].low && access->at < dispatch->buffers[i].high) {
                found->buffer = (int32_t)i;
                found->offset = access->at - dispatch->buffers[i].origin;
            }
        if (found->buffer < 0)
            snprintf(found->message, sizeof found->message, "wild pointer %p", (const void *)access->at);
    }
    leave();
}

// What clang hands to a handler of its sanitizer for arrays.
struct ArrayType {
    u16 kind, info;
    char name[]; // in quotes
};

struct ArrayPlace {
    const char *file;
    u32 line, column;
    const ArrayType *array, *index;
};

struct Qualified {
    const char *prefix, *space;
};
static const Qualified SPACES[] = {{"__local ", "threadgroup"}, {"__global_host ", "constant"}};

// An index outside of an array, as clang found; or without a place, bytes outside of a thread's own.
extern "C" void __msl_overrun(const void *place, u64 index, u32 site) {
    Problem *found = problem(OUT_OF_BOUNDS, dispatch->sites[site].line);
    aborted = true;
    if (!found)
        leave();
    found->site = site;
    if (!place) {
        snprintf(found->message, sizeof found->message, "byte offset %ld by a pointer into a private array",
                 (long)index);
        leave();
    }
    const char *name = ((const ArrayPlace *)place)->array->name + 1, *space = "private";
    for (const Qualified &each : SPACES)
        if (const char *at = strstr(name, each.prefix)) {
            space = each.space;
            name = at + strlen(each.prefix);
        }
    snprintf(found->message, sizeof found->message, "index %ld of a %s array, %.*s", (long)index, space,
             (int)strcspn(name, "'"), name);
    leave();
}

// ---------------------------------------------------------------- shadow cells

struct Shadow {
    const Access *access;
    u32 now, buffer, other; // `other` thread of a problem found
    u16 simd_epoch;
    bool threadgroup, initialised;
};

static __attribute__((noinline)) void report(const Shadow *shadow, u32 kind, const char *message) {
    const u32 known = dispatch->problem_count < MAX_PROBLEMS ? dispatch->problem_count : (u32)MAX_PROBLEMS;
    for (u32 i = 0; i < known; i++)
        if (dispatch->problems[i].kind == kind && dispatch->problems[i].line == shadow->access->line)
            return;
    Problem *found = problem_at(kind, shadow->access);
    if (!found)
        return;
    found->other_thread = shadow->other;
    if (!shadow->threadgroup) {
        found->buffer = (int32_t)shadow->buffer;
        found->offset = shadow->access->at - dispatch->buffers[shadow->buffer].origin;
        snprintf(found->message, sizeof found->message, "%s", message);
        return;
    }
    const Variable *variable = &variables[shadow->buffer];
    found->offset = shadow->access->at - arena - variable->offset;
    snprintf(found->message, sizeof found->message, "%s on threadgroup array '%s' (byte offset %ld)", message,
             variable->name, (long)found->offset);
}

// Whether an access of this epoch by this thread is unordered with the current one.
static bool unordered(const Shadow *shadow, u32 epoch, u32 thread, u16 simd_epoch) {
    if (epoch != shadow->now || thread == current->context.thread)
        return false;
    return thread / LANES != current->context.simd || simd_epoch == shadow->simd_epoch;
}

static bool unordered_read(const Shadow *shadow, const Cell *cell) {
    if (cell->read_epoch != shadow->now)
        return false;
    const u32 thread = cell->reader & THREAD_BITS;
    if (cell->reader & SEVERAL_SIMDS)
        return true;
    if (cell->reader & SEVERAL_LANES)
        return thread / LANES != current->context.simd || cell->read_simd == shadow->simd_epoch;
    return unordered(shadow, cell->read_epoch, thread, cell->read_simd);
}

static void note_read(const Shadow *shadow, Cell *cell) {
    const u32 thread = current->context.thread;
    u16 flags = cell->reader & EARLIER_GROUP;
    if (cell->read_epoch && cell->read_epoch < group_epoch)
        flags = EARLIER_GROUP;
    else if (cell->read_epoch == shadow->now) {
        const u32 before = cell->reader & THREAD_BITS;
        if (cell->reader & SEVERAL_SIMDS || before / LANES != thread / LANES)
            flags |= SEVERAL_SIMDS;
        else if (cell->read_simd == shadow->simd_epoch && (before != thread || cell->reader & SEVERAL_LANES))
            flags |= SEVERAL_LANES;
    }
    cell->read_epoch = shadow->now;
    cell->reader = (u16)(thread | flags);
    cell->read_simd = shadow->simd_epoch;
}

static const char *const RACES[] = {
    "read of a value another thread wrote with no barrier between",
    "write after write by another thread with no barrier between",
    "unordered atomics: a load or store and another thread's atomic with no barrier between",
};

// Null, or what is wrong with memory that other threadgroups, or nobody, wrote.
static const char *group_problem(Shadow *shadow, const Cell *cell, u32 *kind) {
    const Access *access = shadow->access;
    const bool reads = !access->writes || access->atomic == ATOMIC_UPDATE;
    if (shadow->threadgroup) {
        *kind = UNINITIALISED;
        return reads && cell->write_epoch < group_epoch ? "read of uninitialised threadgroup memory" : nullptr;
    }
    *kind = ACROSS_THREADGROUPS;
    const bool atomic = access->kind == ATOMIC, by_atomic = cell->writer & BY_ATOMIC;
    const bool written_before = cell->write_epoch && cell->write_epoch < group_epoch;
    shadow->other = cell->writer & THREAD_BITS;
    // What threadgroups add up or vote on by atomics is theirs; to read it is to wait for them.
    if (written_before && !access->writes)
        return "read of memory another threadgroup wrote in this dispatch";
    if (written_before && atomic != by_atomic)
        return "write to memory another threadgroup wrote in this dispatch";
    if (written_before && !atomic)
        return "write to memory another threadgroup wrote in this dispatch";
    shadow->other = cell->reader & THREAD_BITS;
    const bool read_before = cell->reader & EARLIER_GROUP || (cell->read_epoch && cell->read_epoch < group_epoch);
    if (access->writes && read_before)
        return "write to memory another threadgroup read in this dispatch";
    *kind = UNINITIALISED_OUTPUT;
    shadow->other = 0;
    return reads && !cell->write_epoch && !shadow->initialised ? "read of an output nobody has written (no init_value)"
                                                                : nullptr;
}

// False where the cell shows a problem: it is reported once for the access.
static bool step(Shadow *shadow, Cell *cell) {
    const Access *access = shadow->access;
    const bool atomic = access->kind == ATOMIC;
    u32 kind;
    if (const char *message = group_problem(shadow, cell, &kind)) {
        report(shadow, kind, message);
        return false;
    }
    const bool both_update = access->atomic == ATOMIC_UPDATE && atomic && cell->writer & BY_UPDATE;
    const u32 writer = cell->writer & THREAD_BITS;
    if (!both_update && unordered(shadow, cell->write_epoch, writer, cell->write_simd)) {
        shadow->other = writer;
        report(shadow, RACE, RACES[atomic && cell->writer & BY_ATOMIC ? 2 : access->writes]);
        return false;
    }
    if (!access->writes) {
        note_read(shadow, cell);
        return true;
    }
    if (unordered_read(shadow, cell)) {
        shadow->other = cell->reader & THREAD_BITS;
        report(shadow, RACE, atomic ? RACES[2] : "write to a value another thread read with no barrier between");
        return false;
    }
    const u32 flags = (atomic ? BY_ATOMIC : 0) | (atomic && access->atomic == ATOMIC_UPDATE ? BY_UPDATE : 0);
    cell->write_epoch = shadow->now;
    cell->writer = (u16)(current->context.thread | flags);
    cell->write_simd = shadow->simd_epoch;
    return true;
}

static void check_cells(Shadow *shadow, Cell *cells) {
    for (u32 i = 0; i < shadow->access->size; i++)
        if (!step(shadow, &cells[i]))
            return;
}

// ---------------------------------------------------------------- bounds and counts

static void count(const Access *access, Traffic *traffic, u64 position, u32 buffer) {
    traffic->requested[access->kind] += access->size;
    SiteCount *counts = &dispatch->counts[access->site];
    counts->accesses++;
    counts->requested += access->size;
    log_access(access->site, position, access->size, buffer);
}

static void access_threadgroup(const Access *access) {
    u32 found = 0;
    const u64 first = (u64)(access->at - arena);
    for (; found < variable_count; found++) {
        const Variable *variable = &variables[found];
        if (first >= variable->offset && first + access->size <= variable->offset + variable->size)
            break;
    }
    if (found == variable_count)
        fail(access, OUT_OF_BOUNDS);
    count(access, &dispatch->threadgroup, first, NO_BUFFER);
    if (!(dispatch->mode & CHECK))
        return;
    const u16 simd_epoch = simdgroups[current->context.simd].threadgroup_epoch;
    Shadow shadow = {access, threadgroup_epoch, found, 0, simd_epoch, true, false};
    check_cells(&shadow, arena_shadow + first);
}

static bool holds(const Buffer *buffer, const Access *access) {
    const u64 offset = (u64)(access->at - buffer->base);
    return access->at >= buffer->base && offset + access->size <= buffer->size;
}

static u32 buffer_of(const Access *access) {
    const u32 last = last_buffer[access->site];
    if (last < dispatch->buffer_count && holds(&dispatch->buffers[last], access))
        return last;
    for (u32 i = 0; i < dispatch->buffer_count; i++)
        if (holds(&dispatch->buffers[i], access))
            return last_buffer[access->site] = i;
    return NO_BUFFER;
}

// Memory of the program itself: constants at file scope.
static void access_program(const Access *access) {
    for (u32 i = 0; i < dispatch->buffer_count; i++)
        if (access->at >= dispatch->buffers[i].low && access->at < dispatch->buffers[i].high)
            fail(access, OUT_OF_BOUNDS);
    dispatch->global_constant_bytes += access->size;
}

static void access_device(const Access *access) {
    const u32 index = buffer_of(access);
    if (index == NO_BUFFER && access->space == CONSTANT) {
        access_program(access);
        return;
    }
    if (index == NO_BUFFER)
        fail(access, OUT_OF_BOUNDS);
    Buffer *buffer = &dispatch->buffers[index];
    if (access->writes && !buffer->writable)
        fail(access, WRITE_TO_INPUT);
    count(access, &buffer->traffic, (u64)access->at, index);
    if (!buffer->shadow || !(dispatch->mode & CHECK))
        return;
    const u16 simd_epoch = simdgroups[current->context.simd].device_epoch;
    Shadow shadow = {access, device_epoch, index, 0, simd_epoch, false, buffer->initialised != 0};
    check_cells(&shadow, buffer->shadow + (access->at - buffer->base));
}

// Of a plain pointer, whose space the compiler could not tell; PRIVATE is the thread's own memory.
static u32 space_of(const u8 *at) {
    if (at >= arena && at < arena + ARENA_BYTES)
        return THREADGROUP;
    for (u32 i = 0; i < dispatch->buffer_count; i++)
        if (at >= dispatch->buffers[i].low && at < dispatch->buffers[i].high)
            return DEVICE;
    return PRIVATE;
}

// The buffer of the last access at this site again, and no shadow cells: true if that was all.
static inline bool usual(const u8 *at, u32 size, u32 site, u32 kind) {
    const u32 index = last_buffer[site];
    if (index >= dispatch->buffer_count)
        return false;
    Buffer *buffer = &dispatch->buffers[index];
    const u64 offset = (u64)(at - buffer->base); // huge where `at` lies before
    if (offset >= buffer->size || size > buffer->size - offset)
        return false;
    if ((buffer->shadow && dispatch->mode & CHECK) || (kind == STORE && !buffer->writable))
        return false;
    buffer->traffic.requested[kind] += size;
    dispatch->counts[site].accesses++;
    dispatch->counts[site].requested += size;
    log_access(site, (u64)at, size, index);
    return true;
}

static __attribute__((noinline)) void misaligned(const void *at, u32 size, u32 site, u32 kind) {
    const Site *where = &dispatch->sites[site];
    const Access access = {(const u8 *)at, size, site, where->line, where->space, kind, 0, kind == STORE};
    Problem *found = problem_at(MISALIGNED, &access);
    aborted = true;
    if (found)
        snprintf(found->message, sizeof found->message, "a type of %u bytes' alignment lies %u bytes beyond",
                 where->align, (u32)((u64)at % where->align));
    leave();
}

static inline void plain(const void *at, u32 size, u32 site, u32 kind) {
    if (dispatch->mode & CHECK && dispatch->sites[site].align && (u64)at % dispatch->sites[site].align)
        misaligned(at, size, site, kind);
    if (usual((const u8 *)at, size, site, kind))
        return;
    const Site *where = &dispatch->sites[site];
    const u32 space = where->space == UNKNOWN ? space_of((const u8 *)at) : where->space;
    const Access access = {(const u8 *)at, size, site, where->line, space, kind, 0, kind == STORE};
    if (space == THREADGROUP)
        access_threadgroup(&access);
    else if (space != PRIVATE)
        access_device(&access);
}

extern "C" void __msl_ld(const void *at, u32 size, u32 site) {
    plain(at, size, site, LOAD);
}

extern "C" void __msl_st(const void *at, u32 size, u32 site) {
    plain(at, size, site, STORE);
}

// Sites of atomics are not known before they run: they are numbered as they come.
static u32 atomic_site(u32 line, u32 space, u32 size) {
    u32 i = 0;
    Site *sites = dispatch->sites + dispatch->site_count;
    for (; i < dispatch->atomic_sites; i++)
        if (sites[i].line == line && sites[i].space == space)
            return dispatch->site_count + i;
    if (i == MAX_ATOMIC_SITES)
        return dispatch->site_count + i - 1;
    sites[i] = {space, ATOMIC, line, size};
    dispatch->atomic_sites++;
    return dispatch->site_count + i;
}

extern "C" void __msl_atomic(const void *at, u32 size, u32 line, u32 space_and_kind) {
    const u32 space = space_and_kind & 0xff, atomic = space_and_kind >> 8;
    (space == THREADGROUP ? dispatch->threadgroup_atomics : dispatch->device_atomics)++;
    if (!dispatch->mode)
        return;
    const u32 site = atomic_site(line, space, size);
    const bool again = atomic == ATOMIC_LOAD && at == waited_for && current->context.thread == waiting_thread;
    waits = again ? waits + 1 : 0;
    waited_for = at;
    waiting_thread = current->context.thread;
    const Access access = {(const u8 *)at, size, site, line, space, ATOMIC, atomic, atomic != ATOMIC_LOAD};
    if (waits > MOST_WAITS) {
        Problem *found = problem_at(ENDLESS, &access);
        if (found)
            snprintf(found->message, sizeof found->message, "a thread waits for what another must write");
        aborted = true;
        leave();
    }
    if (space == THREADGROUP)
        access_threadgroup(&access);
    else
        access_device(&access);
}

// Compiled code may call this for bfloat; some systems' libgcc lacks it. Rounds to nearest even.
extern "C" __attribute__((visibility("default"))) __bf16 __truncsfbf2(float value) {
    const u32 bits = __builtin_bit_cast(u32, value);
    const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    const u32 rounded = is_nan ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
    return __builtin_bit_cast(__bf16, (u16)(rounded >> 16));
}
