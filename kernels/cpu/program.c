/* A step's calls, one after the other, as recorder.py has written them down. */
#include "export.h"

/* Each call is its entry, the number of its words, and the words; gives the first failure's status.
   A program without calls is one of 0. */
EXPORT int op_program(const Word *at, int calls) {
    for (; calls; calls--) {
        const int status = at[0].entry(at + 2);
        if (status)
            return status;
        at += 2 + at[1].i;
    }
    return 0;
}
