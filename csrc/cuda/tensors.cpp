#include "tensors.h"

namespace bam_fused {

void prepare_memory(const Tensor&) {}

namespace cuda {

namespace {

// The one stride at which the elements of a sample lie, or -1 if there is none; that of one element means nothing.
int64_t step_of(const Tensor& t) {
  const auto size = t.sizes(), stride = t.strides();
  int64_t step = 1, next = -1;  // `next`: what the next dimension outwards must have
  for (size_t d = size.size() - 1; d > 0; --d) {
    if (size[d] == 1) continue;
    if (next != -1 && stride[d] != next) return -1;
    if (next == -1) step = stride[d];
    next = size[d] * stride[d];
  }
  return step;
}

}  // namespace

Logits logits_of(const Tensor& logits, Tensor& copy) {
  copy = step_of(logits) >= 0 ? logits : torch::stable::contiguous(logits);
  return {copy.const_data_ptr(), copy.stride(0), step_of(copy), copy.scalar_type() == ScalarType::Float};
}

Results results_of(const Tensor& t) { return {t.data_ptr(), t.scalar_type() == ScalarType::Float}; }

void* Memory::operator()(size_t bytes) {
  tensors_.push_back(torch::stable::new_empty(like_, {static_cast<int64_t>(bytes)}, ScalarType::Byte));
  return tensors_.back().data_ptr();
}

}  // namespace cuda
}  // namespace bam_fused
