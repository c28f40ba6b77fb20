/* Which instruction sets this machine has; compiled for the oldest of its kind. */
#include "export.h"

#if defined(__x86_64__)
#include <cpuid.h>

static int has(unsigned found, unsigned wanted) {
    return (found & wanted) == wanted;
}

/* `__builtin_cpu_supports` would say all this, but answers 0 where zig has compiled it. */
static const char *best(void) {
    const unsigned first = bit_FMA | bit_F16C | bit_OSXSAVE, avx2 = bit_AVX2 | bit_BMI2;
    const unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    unsigned a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, first) || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return "portable";
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0)); /* registers that the system keeps */
    if (has(saved, 0xe6) && has(b, avx2 | avx512) && has(c, bit_AVX512VNNI | bit_AVX512VBMI))
        return "avx512";
    return has(saved, 6) && has(b, avx2) ? "avx2" : "portable";
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* The kernel's HWCAP_ASIMDHP and HWCAP_ASIMDDP. */
enum { HALVES = 1 << 10, DOT_PRODUCTS = 1 << 20 };

static const char *best(void) {
    const unsigned long found = getauxval(AT_HWCAP);
    return (found & HALVES) && (found & DOT_PRODUCTS) ? "neon" : "portable";
}

#elif defined(__aarch64__) && defined(__APPLE__)
static const char *best(void) {
    return "neon"; /* every one of them has dot products */
}

#else
static const char *best(void) {
    return "portable";
}
#endif

/* The name of the best tier, as in library.py. */
EXPORT const char *tier(void) {
    return best();
}
