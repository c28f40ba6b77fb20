/* The Metal standard library: what <metal_stdlib> and its parts bring.

   Each of these forwards to this header: metal_array, metal_assert, metal_atomic, metal_common,
   metal_compute, metal_config, metal_extended_vector, metal_geometric, metal_integer, metal_limits,
   metal_logging, metal_math, metal_matrix, metal_numeric, metal_pack, metal_quadgroup,
   metal_relational, metal_simdgroup, metal_simdgroup_matrix, metal_stdlib, metal_type_traits,
   metal_types, metal_uniform, metal_utility.

   Missing: textures and samplers, float4x4 and its like, simdgroup_async_copy, and what came with
   Metal 4 (tensors, cooperative matrices). Of `bool4` a component is b[0], not b.x; a comparison of
   vectors gives a mask of -1 and 0 until it becomes a `bool4`. */
#pragma once
#include "msl_atomic.h"
#include "msl_integer.h"
#include "msl_matrix.h"
#include "msl_simd.h"
#include "msl_vector.h"

namespace metal {
template <class T>
using uniform = T;
template <class T>
__MSL_INLINE constexpr T make_uniform(T x) {
  return x;
}
} // namespace metal
