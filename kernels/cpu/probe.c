/* What this machine's processor has of what the tiers in library.py need, under the compiler's names;
   compiled for the oldest of its kind. */
#include "export.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum { LEAF1_ECX, LEAF7_EBX, LEAF7_ECX, REGISTERS };
enum { YMM = 0x06, ZMM = 0xe6 }; /* registers that the system must save */

static const struct {
    const char *name;
    int at;
    unsigned bit, saved;
} FEATURES[] = {
    {"fma ", LEAF1_ECX, bit_FMA, YMM},
    {"f16c ", LEAF1_ECX, bit_F16C, YMM},
    {"avx2 ", LEAF7_EBX, bit_AVX2, YMM},
    {"bmi2 ", LEAF7_EBX, bit_BMI2, YMM},
    {"avx512f ", LEAF7_EBX, bit_AVX512F, ZMM},
    {"avx512bw ", LEAF7_EBX, bit_AVX512BW, ZMM},
    {"avx512dq ", LEAF7_EBX, bit_AVX512DQ, ZMM},
    {"avx512vl ", LEAF7_EBX, bit_AVX512VL, ZMM},
    {"avx512vnni ", LEAF7_ECX, bit_AVX512VNNI, ZMM},
    {"avx512vbmi ", LEAF7_ECX, bit_AVX512VBMI, ZMM},
};

/* `__builtin_cpu_supports` would say all this, but answers 0 where zig has compiled it. */
static void list(char *out) {
    unsigned a, b, d, has[REGISTERS] = {0}, saved, high;
    if (!__get_cpuid(1, &a, &b, &has[LEAF1_ECX], &d) || !(has[LEAF1_ECX] & bit_OSXSAVE))
        return;
    __get_cpuid_count(7, 0, &a, &has[LEAF7_EBX], &has[LEAF7_ECX], &d);
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    for (unsigned i = 0; i < sizeof FEATURES / sizeof *FEATURES; i++)
        if ((has[FEATURES[i].at] & FEATURES[i].bit) && (saved & FEATURES[i].saved) == FEATURES[i].saved)
            strcat(out, FEATURES[i].name);
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* The kernel's HWCAP_ASIMDHP and HWCAP_ASIMDDP. */
enum { HALVES = 1 << 10, DOT_PRODUCTS = 1 << 20 };

static void list(char *out) {
    const unsigned long has = getauxval(AT_HWCAP);
    strcat(out, has & HALVES ? "fp16 " : "");
    strcat(out, has & DOT_PRODUCTS ? "dotprod " : "");
}

#elif defined(__aarch64__) && defined(__APPLE__)
static void list(char *out) {
    strcat(out, "fp16 dotprod"); /* every one of them has both */
}

#else
static void list(char *out) {
    (void)out;
}
#endif

/* Names, separated by spaces. */
EXPORT const char *features(void) {
    static char names[128];
    names[0] = 0;
    list(names);
    return names;
}
