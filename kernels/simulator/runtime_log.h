// The log of accesses since the last synchronisation (runtime_log.cpp), and its usual case.
#pragma once
#include "runtime.h"

enum { LINE_SHIFT = 6, LINE_BYTES = 1 << LINE_SHIFT };

struct Line {
    u64 number, bytes; // a bit a byte
    u32 buffer;
};

struct Instruction {
    u64 highest; // of the lines' numbers
    u32 lines;
};

// The instructions of one site: `width` lines are kept for each.
struct SiteLog {
    u32 count, capacity, width;
    Instruction *instructions;
    Line *lines;
    u32 made[LANES]; // accesses of each lane
};

extern SiteLog *logs;

void log_new(u32 site, u64 at, u32 size, u32 buffer);

inline u64 line_bits(u32 first, u32 count) {
    return (count == LINE_BYTES ? ~0ull : (1ull << count) - 1) << first;
}

// Mostly a lane goes on in the line where the lane before it was.
inline void log_access(u32 site, u64 at, u32 size, u32 buffer) {
    SiteLog *log = &logs[site];
    u32 *made = &log->made[current->context.lane];
    const u32 number = *made;
    const u32 first = at % LINE_BYTES;
    if (number < log->count && first + size <= LINE_BYTES) {
        Line *line = &log->lines[(u64)number * log->width + log->instructions[number].lines - 1];
        if (line->number == at >> LINE_SHIFT) {
            line->bytes |= line_bits(first, size);
            *made = number + 1;
            return;
        }
    }
    log_new(site, at, size, buffer);
}
