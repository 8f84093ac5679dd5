#include "tensors.h"

namespace bam_fused {

void prepare_memory(const Tensor&) {}

namespace cuda {

Dtype dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Double: return Dtype::float64;
    case ScalarType::Float: return Dtype::float32;
    case ScalarType::BFloat16: return Dtype::bfloat16;
    default: return Dtype::float16;
  }
}

Logits channel_logits_of(const Tensor& logits) {
  return {logits.data_ptr(), logits.stride(0), logits.stride(1), logits.scalar_type() == ScalarType::Float};
}

Logits spatial_logits_of(const Tensor& logits, Tensor& copy) {
  const auto step_of = [](const Tensor& t) { return t.stride(t.dim() - (t.size(t.dim() - 1) > 1 ? 1 : 2)); };
  const int64_t d = logits.dim(), h = logits.size(d - 2), w = logits.size(d - 1);
  const bool one_stride = h == 1 || w == 1 || logits.stride(d - 2) == w * logits.stride(d - 1);
  copy = one_stride ? logits : torch::stable::contiguous(logits);
  return {copy.data_ptr(), copy.stride(0), step_of(copy), copy.scalar_type() == ScalarType::Float};
}

Results results_of(const Tensor& t) { return {t.data_ptr(), t.scalar_type() == ScalarType::Float}; }

void* Memory::operator()(size_t bytes) {
  tensors_.push_back(torch::stable::new_empty(like_, {static_cast<int64_t>(bytes)}, ScalarType::Byte));
  return tensors_.back().data_ptr();
}

}  // namespace cuda
}  // namespace bam_fused
