// Logits as a kernel reads them: value i of a sample, through whatever strides and in whichever dtype they come.
#pragma once

#include <cstdint>

#include "stable.h"

namespace bam_fused {

// Value i of sample n lies at n * stride_sample + (i / inner) * stride_outer + (i % inner) * stride_inner, in elements.
struct Logits {
  const void* data;
  ScalarType dtype;
  int64_t stride_sample, inner, stride_outer, stride_inner;
};

// (N, C) or (N, C, 1, 1)
inline Logits channel_view(const Tensor& t) {
  return {t.const_data_ptr(), t.scalar_type(), t.stride(0), t.size(1), 0, t.stride(1)};
}

// (N, H, W) or (N, 1, H, W)
inline Logits spatial_view(const Tensor& t) {
  const int64_t d = t.dim();
  return {t.const_data_ptr(), t.scalar_type(), t.stride(0), t.size(d - 1), t.stride(d - 2), t.stride(d - 1)};
}

}  // namespace bam_fused
