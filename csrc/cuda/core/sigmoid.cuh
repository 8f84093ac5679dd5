// The gate's arithmetic: how the two logits are combined, and the sigmoid with its derivative.
#pragma once

#include "../../shared/combine.h"
#include "element.cuh"

namespace bam_fused::cuda {

/// The larger one; NaN wins, as in torch.maximum.
template <typename A>
__device__ __forceinline__ A maximum(A a, A b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (sizeof(A) == 4) {
    A larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
  }
#endif
  return a > b || a != a ? a : b;
}

template <Combine C, typename A>
__device__ __forceinline__ A combine(A row, A column) {
  if constexpr (C == Combine::sum) return row + column;
  if constexpr (C == Combine::product) return row * column;
  if constexpr (C == Combine::max) return maximum(row, column);
}

/// Calls `to_row` and `to_column` with what the gradient t of combine(row, column) is for each of them. Under "max" the loser
/// gets nothing, and on a tie each gets half, as from torch.maximum; a NaN loses to none.
template <Combine C, typename A, typename ToRow, typename ToColumn>
__device__ __forceinline__ void share(A t, A row, A column, ToRow to_row, ToColumn to_column) {
  if constexpr (C == Combine::sum) to_row(t), to_column(t);
  if constexpr (C == Combine::product) to_row(t * column), to_column(t * row);
  if constexpr (C == Combine::max) {
    if (row == column) t *= A(0.5);
    if (!(row < column)) to_row(t);
    if (!(row > column)) to_column(t);
  }
}

/// exp(z). Results in 16 bits need no more than the hardware's approximation (2^-22 relative for |z| < 2); float32 takes
/// the exact function, so that its error is not above eager's.
template <typename T>
__device__ __forceinline__ Compute<T> exponential(Compute<T> z) {
  if constexpr (sizeof(T) == 8) {
    return exp(z);
  } else if constexpr (sizeof(T) == 4) {
    return expf(z);
  } else {
#ifdef __CUDA_ARCH__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(z * 1.4426950408889634f));
    return y;
#else
    return expf(z);
#endif
  }
}

/// 1 / y for y >= 1: the hardware's reciprocal (1 ulp) in float32.
__device__ __forceinline__ float reciprocal(float y) {
#ifdef __CUDA_ARCH__
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(y));
  return r;
#else
  return 1.0f / y;
#endif
}

__device__ __forceinline__ double reciprocal(double y) { return 1.0 / y; }

template <typename T>
__device__ __forceinline__ Compute<T> sigmoid(Compute<T> z) {
  return reciprocal(Compute<T>(1) + exponential<T>(-z));
}

/// sigmoid(z) and its derivative. For results in 16 bits s - s^2, which is off by 2^-24 at most; else from exp(-|z|), which
/// neither overflows nor loses the derivative to cancellation.
template <typename T>
__device__ __forceinline__ void sigmoid(Compute<T> z, Compute<T>& value, Compute<T>& derivative) {
  if constexpr (sizeof(T) == 2) {
    value = sigmoid<T>(z);
    derivative = value - value * value;
  } else {
    const Compute<T> e = exponential<T>(z < 0 ? z : -z);
    const Compute<T> r = reciprocal(Compute<T>(1) + e);
    value = z < 0 ? e * r : r;
    derivative = e * r * r;
  }
}

}  // namespace bam_fused::cuda
