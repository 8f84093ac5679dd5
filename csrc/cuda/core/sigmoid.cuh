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

/// Where results have 16 bits, combined logits come multiplied by log2(e) / 2: under "sum" and "product" the logits
/// themselves do, once when they are loaded. Only half of log2(e), so that none overflows by it: a sum of huge ones
/// cancels, and a huge one times a tiny one is what it is. A sum is as exact as that of logits rounded to float32 once
/// more: no less than eager's where they are numbers in 16 bits, or below 10^5. Under "max" they are compared as they
/// are.
template <typename T>
constexpr Compute<T> kScale = sizeof(T) == 2 ? 0.72134752f : 1;

/// A logit so multiplied, once and for all: fused into a sum that follows, a logit would not cancel its negative.
template <typename T>
__device__ __forceinline__ Compute<T> scale(Compute<T> logit) {
  if constexpr (sizeof(T) == 2) return __fmul_rn(kScale<T>, logit);
  return logit;
}

template <typename T, Combine C>
__device__ __forceinline__ Compute<T> scale_row(Compute<T> logit) {
  return C == Combine::max ? logit : scale<T>(logit);
}

template <Combine C, typename T, int V>
__device__ __forceinline__ void scale_columns(RawColumns<T, V>& column) {
  if constexpr (C == Combine::sum) {
#pragma unroll
    for (int i = 0; i < V; ++i) column.set(i, scale<T>(column[i]));
  }
}

/// kScale times the combined logits, of such.
template <typename T, Combine C, typename A = Compute<T>>
__device__ __forceinline__ A combine(A row, A column) {
  if constexpr (C == Combine::sum) return row + column;
  if constexpr (C == Combine::product) return row * column;
  if constexpr (C == Combine::max) return kScale<T> * maximum(row, column);
}

/// Calls `to_row(part, counts)` and `to_column` with what the gradient t of the combined logits is for each of them;
/// under "product" kScale times it for the column. Under "max" the loser gets nothing, and on a tie each gets half, as
/// from torch.maximum; a NaN loses to none.
template <Combine C, typename A, typename ToRow, typename ToColumn>
__device__ __forceinline__ void share(A t, A row, A column, ToRow to_row, ToColumn to_column) {
  if constexpr (C == Combine::sum) to_row(t, true), to_column(t);
  if constexpr (C == Combine::product) to_row(t * column, true), to_column(t * row);
  if constexpr (C == Combine::max) {
    if (row == column) t *= A(0.5);
    to_row(t, !(row < column));
    if (!(row > column)) to_column(t);
  }
}

/// 2^-y by the hardware's approximation (2^-22 relative for |y| < 2).
__device__ __forceinline__ float power_of_half(float y) {
#ifdef __CUDA_ARCH__
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(-y));
  return power;
#else
  return exp2f(-y);
#endif
}

__device__ __forceinline__ float exponential(float z) { return expf(z); }
__device__ __forceinline__ double exponential(double z) { return exp(z); }

/// 1 / y for y >= 1 by the hardware's approximation (1 ulp).
__device__ __forceinline__ float approximate_reciprocal(float y) {
#ifdef __CUDA_ARCH__
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(y));
  return r;
#else
  return 1.0f / y;
#endif
}

/// 1 / y for y >= 1, in float32 by one step of Newton's from there, as exact as a division; it leaves an infinite y
/// alone.
__device__ __forceinline__ float reciprocal(float y) {
  const float r = approximate_reciprocal(y);
  const float better = fmaf(r, fmaf(-y, r, 1.0f), r);
  return y < 0x1p126f ? better : r;
}

__device__ __forceinline__ double reciprocal(double y) { return 1.0 / y; }

/// sigmoid(z / kScale). Results in 16 bits need no more than the hardware's approximation; float32 takes the exact
/// function, so that its error is not above eager's.
template <typename T>
__device__ __forceinline__ Compute<T> sigmoid(Compute<T> z) {
  if constexpr (sizeof(T) == 2) {
    const float root = power_of_half(z);
    return approximate_reciprocal(fmaf(root, root, 1.0f));
  } else {
    return reciprocal(Compute<T>(1) + exponential(-z));
  }
}

/// sigmoid(z / kScale) and its derivative. For results in 16 bits s - s^2, which is off by 2^-24 at most; else from
/// exp(-|z|), which neither overflows nor loses the derivative to cancellation.
template <typename T>
__device__ __forceinline__ void sigmoid(Compute<T> z, Compute<T>& value, Compute<T>& derivative) {
  if constexpr (sizeof(T) == 2) {
    value = sigmoid<T>(z);
    derivative = value - value * value;
  } else {
    const Compute<T> e = exponential(z < 0 ? z : -z);
    const Compute<T> r = reciprocal(Compute<T>(1) + e);
    value = z < 0 ? e * r : r;
    derivative = e * r * r;
  }
}

}  // namespace bam_fused::cuda
