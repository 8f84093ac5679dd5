// What this library says of tensors: fresh memory needs no preparation, and logits are read at one stride per sample.
#include "../shared/logits.h"

namespace bam_fused {
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

void prepare_memory(const Tensor&) {}

LogitsView logits_of(const Tensor& logits, const Tensor&) {
  const Tensor read = step_of(logits) >= 0 ? logits : torch::stable::contiguous(logits);
  return {read, {read.const_data_ptr(), read.stride(0), step_of(read), read.scalar_type() == ScalarType::Float}};
}

}  // namespace bam_fused
