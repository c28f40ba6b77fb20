/* What Metal source needs before any library: keywords, scalar types, the ABI with the executor.

   A CPU model of Metal: not Apple's compiler, not a GPU. No header of libc or libstdc++ is used, so
   that a bare clang with -nostdinc is enough. */
#pragma once

#ifndef __clang__
#error "the Metal simulator needs clang 17 or newer (address spaces, ext_vector_type, __bf16)"
#endif

#define __MSL_CPU__ 1
#define __METAL__ 1
#ifndef __METAL_VERSION__
#define __METAL_VERSION__ 310 /* Metal 3.1: bfloat, but neither tensors nor logging */
#endif

/* In clang's SYCL mode the default space takes references to every other one, as Metal's classes
   need to be copied out of device memory. Without it the spaces are strangers to one another. */
#ifdef __SYCL_DEVICE_ONLY__
#define device __attribute__((opencl_global_device))
#define constant __attribute__((opencl_global_host))
#define threadgroup __attribute__((opencl_local))
#else
#define device __attribute__((address_space(1)))
#define constant __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
#endif
#define thread
#define kernel

#define __MSL_INLINE inline __attribute__((always_inline))
#define METAL_FUNC __MSL_INLINE
#define METAL_CONST static constexpr constant

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef unsigned long uintptr_t;
typedef long intptr_t;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef _Float16 half;
typedef __bf16 bfloat;

/* 1.0h is a half. The suffix is the one the C++ standard keeps for hours, hence no underscore. */
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wuser-defined-literals"
constexpr half operator""h(long double value) {
  return half(value);
}
constexpr half operator""h(unsigned long long value) {
  return half(value);
}
#pragma clang diagnostic pop

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define HUGE_VALF __builtin_inff()
#define MAXFLOAT 3.402823466e+38f
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#define FLT_EPSILON 1.192092896e-07f
#define FLT_DIG 6
#define FLT_MANT_DIG 24
#define HALF_MAX half(65504.0f)
#define HALF_MIN half(6.103515625e-05f)
#define HALF_EPSILON half(9.765625e-04f)
#define MAXHALF HALF_MAX
#define HUGE_VALH half(__builtin_inff())
#define BFLT_MAX bfloat(3.38953139e+38f)
#define BFLT_MIN bfloat(1.175494351e-38f)
#define BFLT_EPSILON bfloat(7.8125e-03f)
#define CHAR_BIT 8
#define CHAR_MAX SCHAR_MAX
#define CHAR_MIN SCHAR_MIN
#define SCHAR_MAX 127
#define SCHAR_MIN (-128)
#define UCHAR_MAX 255
#define SHRT_MAX 32767
#define SHRT_MIN (-32768)
#define USHRT_MAX 65535
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
#define LONG_MAX 9223372036854775807L
#define LONG_MIN (-9223372036854775807L - 1)
#define ULONG_MAX 18446744073709551615UL
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LOG10E_F 0.434294481903251827651f
#define M_LN2_F 0.693147180559945309417f
#define M_LN10_F 2.30258509299404568402f
#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_PI_4_F 0.785398163397448309616f
#define M_1_PI_F 0.318309886183790671538f
#define M_2_PI_F 0.636619772367581343076f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.707106781186547524401f
#define M_E_H half(M_E_F)
#define M_LOG2E_H half(M_LOG2E_F)
#define M_LN2_H half(M_LN2_F)
#define M_PI_H half(M_PI_F)
#define M_SQRT2_H half(M_SQRT2_F)
#define M_SQRT1_2_H half(M_SQRT1_2_F)

/* The executor's structures and functions; runtime.h mirrors them. */
struct __msl_ctx {
  uint tpig[3], tpit[3], tgpig[3], tgpg[3], tpg[3], tptg[3], dtptg[3];
  uint lane, simd, tindex, nsimd, dnsimd;
};
typedef void (*__msl_fn)(void** slots, uint mask);

template <typename T>
using __msl_same = T;  // no macro takes what follows it for a call: __msl_same<float2> (&x)[4]

extern "C" {
/* Posts `slot`; when every runnable lane of the simdgroup has, the last runs fn(slots, lanes). */
uint __msl_simd(uint site, uint op, void* slot, __msl_fn fn);
void __msl_tg_barrier(uint site, uint flags);
void __msl_sg_barrier(uint site, uint flags);
void* __msl_tg_alloc(uint site, uint size, uint align, const char* name);
void __msl_atomic(const void* p, uint size, uint line, uint space);
void __msl_count_mma(uint flops);
uint __msl_lane();
void __msl_trap(uint line, const char* msg);
}

/* `op` of __msl_simd, for the executor's counts. */
enum __msl_op {
  __MSL_OP_SUM = 1,
  __MSL_OP_PRODUCT,
  __MSL_OP_MAX,
  __MSL_OP_MIN,
  __MSL_OP_AND,
  __MSL_OP_OR,
  __MSL_OP_XOR,
  __MSL_OP_SHUFFLE,
  __MSL_OP_PREFIX,
  __MSL_OP_BALLOT,
  __MSL_OP_QUAD,
  __MSL_OP_MULTIPLY,
  __MSL_OP_MATRIX_MOVE,
};

/* Where a call stands: the last parameter of whatever the lanes have to meet at. A type of its own,
   so that no number given by the caller is taken for it. */
struct __msl_place {
  uint site;
  explicit constexpr __msl_place(uint line, uint column) : site(line * 256u + column % 256u) {}
  constexpr uint line() const {
    return site / 256u;
  }
};
#define __MSL_HERE __msl_place __here = __msl_place(__builtin_LINE(), __builtin_COLUMN())

/* Metal has no 64-bit floating point; the library itself does, to round once. */
typedef double __msl_wide;
#define double __msl_error_no_double_in_metal
