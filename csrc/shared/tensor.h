// What both libraries ask of a tensor besides its layout.
#pragma once

#include <functional>

#include "dtype.h"
#include "layout.h"
#include "stable.h"

namespace bam_fused {

// Of a tensor that passed check_feature_map.
inline Dtype dtype_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Double: return Dtype::float64;
    case ScalarType::Float: return Dtype::float32;
    case ScalarType::BFloat16: return Dtype::bfloat16;
    default: return Dtype::float16;
  }
}

// Not by its scalar_type(), which asks PyTorch for the number of every dtype until one fits.
inline bool is_float64(const Tensor& t) {
  int32_t dtype = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(t.get(), &dtype));
  return dtype == aoti_torch_dtype_float64();
}

// What a feature map is computed in, and its sums are kept in: float64 for float64, float32 for all others.
inline ScalarType compute_dtype(const Tensor& x) { return is_float64(x) ? ScalarType::Double : ScalarType::Float; }

// Whatever the library does with a tensor's memory before it is first written; each library defines it.
void prepare_memory(const Tensor& fresh);

// Runs something on x's device; it is told where to run. Each library defines it.
void on_device(const Tensor& x, const std::function<void(const Target&)>& run);

// Launches an operation's call on x's device: `launch` is what each library defines for it.
template <class Call> void launch_on(const Tensor& x, const Call& call) {
  on_device(x, [&](const Target& target) { launch(call, target); });
}

inline Results results_of(const Tensor& t) { return {t.data_ptr(), t.scalar_type() == ScalarType::Float}; }

// An uninitialised tensor with the strides that torch.empty_like gives.
inline Tensor fresh_like(const Tensor& x) {
  Tensor fresh = torch::stable::empty_like(x);
  prepare_memory(fresh);
  return fresh;
}

}  // namespace bam_fused
