/* Type traits, numeric limits, and the small things of <metal_array> and <metal_utility>. */
#pragma once
#include "msl_types.h"

namespace metal {
template <class T, T V>
struct integral_constant {
  typedef T value_type;
  typedef integral_constant type;
  static constexpr T value = V;
  constexpr operator T() const {
    return V;
  }
  constexpr T operator()() const {
    return V;
  }
};
template <bool B>
using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;

template <bool B, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> {
  typedef T type;
};
template <bool B, class T = void>
using enable_if_t = typename enable_if<B, T>::type;
template <bool B, class T, class F>
struct conditional {
  typedef T type;
};
template <class T, class F>
struct conditional<false, T, F> {
  typedef F type;
};
template <bool B, class T, class F>
using conditional_t = typename conditional<B, T, F>::type;

/* A trait NAME<T>, its NAME_v, from an expression of T. */
#define __MSL_TRAIT(NAME, EXPRESSION)                 \
  template <class T>                                  \
  struct NAME : bool_constant<bool(EXPRESSION)> {};   \
  template <class T>                                  \
  inline constexpr bool NAME##_v = bool(EXPRESSION);
/* A transformation NAME<T>::type, its NAME_t, from a builtin of clang. */
#define __MSL_TRANSFORM(NAME, BUILTIN)    \
  template <class T>                      \
  struct NAME {                           \
    typedef BUILTIN(T) type;              \
  };                                      \
  template <class T>                      \
  using NAME##_t = BUILTIN(T);

template <class A, class B>
inline constexpr bool is_same_v = __is_same(A, B);
template <class A, class B>
struct is_same : bool_constant<__is_same(A, B)> {};
template <class From, class To>
inline constexpr bool is_convertible_v = __is_convertible_to(From, To);
template <class From, class To>
struct is_convertible : bool_constant<__is_convertible_to(From, To)> {};
template <class Base, class T>
inline constexpr bool is_base_of_v = __is_base_of(Base, T);
template <class Base, class T>
struct is_base_of : bool_constant<__is_base_of(Base, T)> {};
template <class T, class... A>
inline constexpr bool is_constructible_v = __is_constructible(T, A...);
template <class T, class... A>
struct is_constructible : bool_constant<__is_constructible(T, A...)> {};

template <class T>
inline constexpr bool __is_float =
    is_same_v<__remove_cv(T), float> || is_same_v<__remove_cv(T), half> ||
    is_same_v<__remove_cv(T), bfloat>;
__MSL_TRAIT(is_floating_point, __is_float<T>)
__MSL_TRAIT(is_integral, __is_integral(T))
__MSL_TRAIT(is_arithmetic, __is_integral(T) || __is_float<T>)
__MSL_TRAIT(is_scalar, __is_scalar(T))
__MSL_TRAIT(is_signed, __is_signed(T))
__MSL_TRAIT(is_unsigned, __is_unsigned(T))
__MSL_TRAIT(is_void, __is_void(T))
__MSL_TRAIT(is_pointer, __is_pointer(T))
__MSL_TRAIT(is_reference, __is_reference(T))
__MSL_TRAIT(is_array, __is_array(T))
__MSL_TRAIT(is_enum, __is_enum(T))
__MSL_TRAIT(is_class, __is_class(T))
__MSL_TRAIT(is_union, __is_union(T))
__MSL_TRAIT(is_const, __is_const(T))
__MSL_TRAIT(is_volatile, __is_volatile(T))
__MSL_TRAIT(is_trivially_copyable, __is_trivially_copyable(T))
__MSL_TRANSFORM(remove_cv, __remove_cv)
__MSL_TRANSFORM(remove_const, __remove_const)
__MSL_TRANSFORM(remove_volatile, __remove_volatile)
__MSL_TRANSFORM(remove_reference, __remove_reference_t)
__MSL_TRANSFORM(remove_pointer, __remove_pointer)
__MSL_TRANSFORM(decay, __decay)
__MSL_TRANSFORM(make_signed, __make_signed)
__MSL_TRANSFORM(make_unsigned, __make_unsigned)
__MSL_TRANSFORM(underlying_type, __underlying_type)

template <class... B>
struct conjunction : bool_constant<(B::value && ...)> {};
template <class... B>
struct disjunction : bool_constant<(B::value || ...)> {};
template <class... B>
using _disjunction = disjunction<B...>; /* MLX's atomics call it so */
template <class B>
struct negation : bool_constant<!B::value> {};

template <class T>
struct __without_space {
  typedef T type;
};
#define __MSL_WITHOUT(SPACE)                \
  template <class T>                        \
  struct __without_space<SPACE T> {         \
    typedef T type;                         \
  };                                        \
  template <class T>                        \
  struct __without_space<const SPACE T> {   \
    typedef const T type;                   \
  };
__MSL_WITHOUT(device)
__MSL_WITHOUT(constant)
__MSL_WITHOUT(threadgroup)
#undef __MSL_WITHOUT
template <class T>
struct remove_addrspace : __without_space<T> {};
template <class T>
using remove_addrspace_t = typename __without_space<T>::type;

template <class T>
inline constexpr bool __is_floating = __is_float<__element<T>>;
template <class T>
inline constexpr bool __is_integer = __is_integral(__element<T>);
template <class T>
using __unsigned_of = __make_unsigned(T);

template <class T>
struct numeric_limits {
  static constexpr bool is_specialized = false;
};
template <class T, bool Integer>
struct __limits {
  static constexpr bool is_specialized = true;
  static constexpr bool is_integer = Integer;
  static constexpr bool is_exact = Integer;
  static constexpr bool has_infinity = !Integer;
  static constexpr bool has_quiet_NaN = !Integer;
  static constexpr bool is_signed = T(-1) < T(0);
  static constexpr int radix = 2;
};
#define __MSL_INTEGER_LIMITS(T, LOWEST, MOST)                                        \
  template <>                                                                        \
  struct numeric_limits<T> : __limits<T, true> {                                     \
    static constexpr int digits = T(-1) < T(0) ? int(sizeof(T)) * 8 - 1 : int(sizeof(T)) * 8; \
    static constexpr T min() { return LOWEST; }                                      \
    static constexpr T lowest() { return LOWEST; }                                   \
    static constexpr T max() { return MOST; }                                        \
    static constexpr T infinity() { return T(); }                                    \
    static constexpr T epsilon() { return T(); }                                     \
  };
__MSL_INTEGER_LIMITS(bool, false, true)
__MSL_INTEGER_LIMITS(char, SCHAR_MIN, SCHAR_MAX)
__MSL_INTEGER_LIMITS(int8_t, SCHAR_MIN, SCHAR_MAX)
__MSL_INTEGER_LIMITS(uint8_t, 0, UCHAR_MAX)
__MSL_INTEGER_LIMITS(int16_t, SHRT_MIN, SHRT_MAX)
__MSL_INTEGER_LIMITS(uint16_t, 0, USHRT_MAX)
__MSL_INTEGER_LIMITS(int32_t, INT_MIN, INT_MAX)
__MSL_INTEGER_LIMITS(uint32_t, 0, UINT_MAX)
__MSL_INTEGER_LIMITS(int64_t, LONG_MIN, LONG_MAX)
__MSL_INTEGER_LIMITS(uint64_t, 0, ULONG_MAX)
#undef __MSL_INTEGER_LIMITS

#define __MSL_FLOAT_LIMITS(T, MOST, LEAST, EPSILON, DIGITS, LARGEST_EXPONENT, SUBNORMAL)    \
  template <>                                                                               \
  struct numeric_limits<T> : __limits<T, false> {                                           \
    static constexpr int digits = DIGITS;                                                   \
    static constexpr int max_exponent = LARGEST_EXPONENT;                                   \
    static constexpr int min_exponent = 3 - LARGEST_EXPONENT;                               \
    static constexpr T min() { return T(LEAST); }                                           \
    static constexpr T lowest() { return T(-float(MOST)); }                                 \
    static constexpr T max() { return T(MOST); }                                            \
    static constexpr T infinity() { return T(INFINITY); }                                   \
    static constexpr T quiet_NaN() { return T(NAN); }                                       \
    static constexpr T epsilon() { return T(EPSILON); }                                     \
    static constexpr T denorm_min() { return T(SUBNORMAL); }                                \
    static constexpr T round_error() { return T(0.5f); }                                    \
  };
__MSL_FLOAT_LIMITS(float, FLT_MAX, FLT_MIN, FLT_EPSILON, 24, 128, 1.401298464e-45f)
__MSL_FLOAT_LIMITS(half, HALF_MAX, HALF_MIN, HALF_EPSILON, 11, 16, 5.9604644775390625e-08f)
__MSL_FLOAT_LIMITS(bfloat, BFLT_MAX, BFLT_MIN, BFLT_EPSILON, 8, 128, 9.18354961579912e-41f)
#undef __MSL_FLOAT_LIMITS

template <class T, size_t N>
struct array {
  T __elements[N];
  constexpr T& operator[](size_t i) {
    return __elements[i];
  }
  constexpr const T& operator[](size_t i) const {
    return __elements[i];
  }
  constexpr size_t size() const {
    return N;
  }
  constexpr T* begin() {
    return __elements;
  }
  constexpr T* end() {
    return __elements + N;
  }
};
} // namespace metal
