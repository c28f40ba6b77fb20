/* complex64_t and its like, as MLX's preamble offers them. */
#pragma once
#include "msl_vector.h"

template <class T>
struct complex_t;
template <class T>
static constexpr constant bool is_complex_v = false;
template <class T>
static constexpr constant bool is_complex_v<complex_t<T>> = true;
template <class From, class To>
static constexpr constant bool is_lane_convertible_v = metal::is_convertible_v<From, To>;

template <class T>
struct complex_t {
  using value_type = T;
  T real;
  T imag;

  template <class U>
  using if_number = metal::enable_if_t<!is_complex_v<U> && metal::is_arithmetic_v<U>>;
  template <class U>
  using if_other = metal::enable_if_t<!metal::is_same_v<U, T>>;

  constexpr complex_t() : real(0), imag(0) {}
  constexpr complex_t(T real, T imag) : real(real), imag(imag) {}
  template <class U, class = if_number<U>>
  constexpr complex_t(U x) : real(static_cast<T>(x)), imag(0) {}
  template <class U, class = if_other<U>>
  constexpr complex_t(complex_t<U> x)
      : real(static_cast<T>(x.real)), imag(static_cast<T>(x.imag)) {}
  constexpr complex_t(metal::vec<T, 2> pair) : real(pair[0]), imag(pair[1]) {}

  constexpr operator metal::vec<T, 2>() const {
    return metal::vec<T, 2>{real, imag};
  }
  template <class U, class = if_number<U>>
  constexpr operator U() const {
    return static_cast<U>(real);
  }
};
using complex32_t = complex_t<half>;
using complex64_t = complex_t<float>;
static_assert(sizeof(complex64_t) == 2 * sizeof(float), "a complex number is two numbers");

template <class T>
constexpr complex_t<T> operator-(complex_t<T> x) {
  return {T(-x.real), T(-x.imag)};
}
template <class T>
constexpr complex_t<T> operator+(complex_t<T> a, complex_t<T> b) {
  return {T(a.real + b.real), T(a.imag + b.imag)};
}
template <class T>
constexpr complex_t<T> operator-(complex_t<T> a, complex_t<T> b) {
  return {T(a.real - b.real), T(a.imag - b.imag)};
}
template <class T>
constexpr complex_t<T> operator*(complex_t<T> a, complex_t<T> b) {
  return {T(a.real * b.real - a.imag * b.imag), T(a.real * b.imag + a.imag * b.real)};
}
/* By the ratio of the smaller to the larger part of b, so that no square overflows. */
template <class T>
constexpr complex_t<T> operator/(complex_t<T> a, complex_t<T> b) {
  float x = float(a.real), y = float(a.imag), c = float(b.real), d = float(b.imag);
  if (__builtin_fabsf(c) >= __builtin_fabsf(d)) {
    float ratio = d / c;
    float scale = c + d * ratio;
    return {T((x + y * ratio) / scale), T((y - x * ratio) / scale)};
  }
  float ratio = c / d;
  float scale = d + c * ratio;
  return {T((x * ratio + y) / scale), T((y * ratio - x) / scale)};
}
/* The remainder of each part, with the sign of the divisor. */
template <class T>
constexpr T __complex_remainder(T a, T b) {
  T rest = T(a - b * T(static_cast<int64_t>(a / b)));
  return rest != T(0) && (rest < T(0)) != (b < T(0)) ? T(rest + b) : rest;
}
template <class T>
constexpr complex_t<T> operator%(complex_t<T> a, complex_t<T> b) {
  return {__complex_remainder(a.real, b.real), __complex_remainder(a.imag, b.imag)};
}

/* A complex number and a real one. */
#define __MSL_COMPLEX_MIXED(OP)                                                             \
  template <class T, class U, class = typename complex_t<T>::template if_number<U>>         \
  constexpr complex_t<T> operator OP(complex_t<T> a, U b) {                                 \
    return a OP complex_t<T>(b);                                                            \
  }                                                                                         \
  template <class T, class U, class = typename complex_t<T>::template if_number<U>>         \
  constexpr complex_t<T> operator OP(U a, complex_t<T> b) {                                 \
    return complex_t<T>(a) OP b;                                                            \
  }
__MSL_COMPLEX_MIXED(+)
__MSL_COMPLEX_MIXED(-)
__MSL_COMPLEX_MIXED(/)
#undef __MSL_COMPLEX_MIXED

#define __MSL_COMPLEX_ADD(SPACE)                                                  \
  template <class T>                                                              \
  constexpr SPACE complex_t<T>& operator+=(SPACE complex_t<T>& a, complex_t<T> b) { \
    a.real += b.real;                                                             \
    a.imag += b.imag;                                                             \
    return a;                                                                     \
  }
__MSL_COMPLEX_ADD(thread)
__MSL_COMPLEX_ADD(threadgroup)
__MSL_COMPLEX_ADD(device)
#undef __MSL_COMPLEX_ADD

/* By the real parts, then by the imaginary ones. */
template <class T>
constexpr bool operator==(complex_t<T> a, complex_t<T> b) {
  return a.real == b.real && a.imag == b.imag;
}
template <class T>
constexpr bool operator>=(complex_t<T> a, complex_t<T> b) {
  return a.real > b.real || (a.real == b.real && a.imag >= b.imag);
}
template <class T>
constexpr bool operator>(complex_t<T> a, complex_t<T> b) {
  return a.real > b.real || (a.real == b.real && a.imag > b.imag);
}
template <class T>
constexpr bool operator<=(complex_t<T> a, complex_t<T> b) {
  return b >= a;
}
template <class T>
constexpr bool operator<(complex_t<T> a, complex_t<T> b) {
  return b > a;
}
