// Which bytes each instruction of a simdgroup touches: what moves is counted once for all its lanes.
//
// Lanes run one after the other, so the n-th access of every lane at one site, since the last synchronisation, is taken
// for one instruction. It is kept as lines of 64 bytes with a bit for each byte.
#include "runtime_log.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_WIDTH = 4, FIRST_CAPACITY = 8 };
enum { BANKS = 32, WORD_BYTES = 4, WORDS_OF_LINE = LINE_BYTES / WORD_BYTES };

SiteLog *logs;
static u32 log_count, touched_count;
static u32 *touched;

void begin_log(u32 sites) {
    if (!dispatch->mode)
        return;
    if (sites > log_count) {
        logs = (SiteLog *)realloc(logs, sites * sizeof *logs);
        touched = (u32 *)realloc(touched, sites * sizeof *touched);
        memset(logs + log_count, 0, (sites - log_count) * sizeof *logs);
        log_count = sites;
    }
    touched_count = 0;
    for (u32 site = 0; site < log_count; site++) {
        logs[site].count = 0;
        memset(logs[site].made, 0, sizeof logs[site].made);
    }
}

static void resize(SiteLog *log, u32 capacity, u32 width) {
    Line *lines = (Line *)malloc((u64)capacity * width * sizeof *lines);
    for (u32 i = 0; i < log->count; i++)
        memcpy(lines + (u64)i * width, log->lines + (u64)i * log->width, log->instructions[i].lines * sizeof *lines);
    free(log->lines);
    log->lines = lines;
    log->instructions = (Instruction *)realloc(log->instructions, capacity * sizeof *log->instructions);
    log->capacity = capacity;
    log->width = width;
}

static u32 begin_instruction(SiteLog *log, u32 site) {
    if (!log->count)
        touched[touched_count++] = site;
    if (log->count == log->capacity)
        resize(log, log->capacity ? 2 * log->capacity : FIRST_CAPACITY, log->width ? log->width : FIRST_WIDTH);
    log->instructions[log->count] = {0, 0};
    return log->count++;
}

static void add_bytes(SiteLog *log, u32 at, u64 number, u64 bytes, u32 buffer) {
    Instruction *instruction = &log->instructions[at];
    Line *lines = log->lines + (u64)at * log->width;
    if (instruction->lines && number <= instruction->highest)
        for (u32 i = instruction->lines; i-- > 0;)
            if (lines[i].number == number) {
                lines[i].bytes |= bytes;
                return;
            }
    if (instruction->lines == log->width) {
        resize(log, log->capacity, 2 * log->width);
        lines = log->lines + (u64)at * log->width;
        instruction = &log->instructions[at];
    }
    lines[instruction->lines++] = {number, bytes, buffer};
    if (number > instruction->highest)
        instruction->highest = number;
}

void log_new(u32 site, u64 at, u32 size, u32 buffer) {
    SiteLog *log = &logs[site];
    u32 *made = &log->made[current->context.lane];
    while (size) {
        const u32 piece = size < LINE_BYTES ? size : LINE_BYTES; // a copy of a large structure is several instructions
        const u32 number = (*made)++;
        const u32 instruction = number < log->count ? number : begin_instruction(log, site);
        const u32 first = at % LINE_BYTES;
        const u32 here = piece < LINE_BYTES - first ? piece : LINE_BYTES - first;
        add_bytes(log, instruction, at >> LINE_SHIFT, line_bits(first, here), buffer);
        if (here < piece)
            add_bytes(log, instruction, (at >> LINE_SHIFT) + 1, line_bits(0, piece - here), buffer);
        at += piece;
        size -= piece;
    }
}

// How many lines of the device's size the instruction touches.
static u32 device_lines(const Line *lines, u32 count) {
    const u32 size = dispatch->line_bytes;
    if (size == LINE_BYTES)
        return count;
    u32 touches = 0;
    if (size < LINE_BYTES) {
        for (u32 i = 0; i < count; i++)
            for (u32 first = 0; first < LINE_BYTES; first += size)
                touches += (lines[i].bytes & line_bits(first, size)) != 0;
        return touches;
    }
    for (u32 i = 0; i < count; i++) {
        bool again = false;
        for (u32 j = 0; j < i && !again; j++)
            again = lines[j].number * LINE_BYTES / size == lines[i].number * LINE_BYTES / size;
        touches += !again;
    }
    return touches;
}

// Each bank gives one word a cycle; lanes that want the same word share it.
static u32 bank_cycles(const Line *lines, u32 count) {
    u32 most = 0, wanted[BANKS] = {};
    for (u32 i = 0; i < count; i++)
        for (u32 word = 0; word < WORDS_OF_LINE; word++) {
            if (!(lines[i].bytes & line_bits(word * WORD_BYTES, WORD_BYTES)))
                continue;
            const u32 cycles = ++wanted[(lines[i].number * WORDS_OF_LINE + word) % BANKS];
            most = cycles > most ? cycles : most;
        }
    return most;
}

static void count(const Line *line, u32 kind, SiteCount *counts) {
    const u32 moved = __builtin_popcountll(line->bytes);
    counts->moved += moved;
    if (line->buffer == NO_BUFFER) {
        dispatch->threadgroup.moved[kind] += moved;
        return;
    }
    Buffer *buffer = &dispatch->buffers[line->buffer];
    buffer->traffic.moved[kind] += moved;
    buffer->seen[kind][line->number - ((u64)buffer->base >> LINE_SHIFT)] |= line->bytes;
}

void flush_log() {
    for (u32 i = 0; i < touched_count; i++) {
        const u32 site = touched[i];
        SiteLog *log = &logs[site];
        SiteCount *counts = &dispatch->counts[site];
        const Site *where = &dispatch->sites[site];
        for (u32 j = 0; j < log->count; j++) {
            const Line *lines = log->lines + (u64)j * log->width;
            const u32 used = log->instructions[j].lines;
            for (u32 k = 0; k < used; k++)
                count(&lines[k], where->kind, counts);
            if (used && lines[0].buffer == NO_BUFFER)
                counts->bank_cycles += bank_cycles(lines, used);
            else
                counts->lines += device_lines(lines, used);
        }
        counts->instances += log->count;
        log->count = 0;
        memset(log->made, 0, sizeof log->made);
    }
    touched_count = 0;
}
