/* What Python may call, and the words in which it writes down a call. */
#pragma once
#define EXPORT __attribute__((visibility("default")))

/* An argument; on all machines that we know an int is the first half of it. */
typedef union Word {
    void *p;
    int i;
    float f;
    int (*entry)(const union Word *);
} Word;

/* Lets a program (program.c) call a function: its arguments are what follows the name, one word
   each. Python compares their text with its own declaration. */
#define ENTRY(name, ...)                            \
    EXPORT const char name##_words[] = #__VA_ARGS__; \
    EXPORT int name##_entry(const Word *w) {        \
        return name(__VA_ARGS__);                   \
    }
