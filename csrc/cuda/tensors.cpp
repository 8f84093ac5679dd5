#include "tensors.h"

namespace bam_fused::cuda {

Dtype dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Double: return Dtype::float64;
    case ScalarType::Float: return Dtype::float32;
    case ScalarType::BFloat16: return Dtype::bfloat16;
    default: return Dtype::float16;
  }
}

Matrix matrix_of(const Tensor& t, Rows rows) {
  const bam_fused::Matrix strides = *as_matrix(t, rows);
  return {t.data_ptr(), strides.stride_sample, strides.stride_row};
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

FeatureMap::FeatureMap(const Tensor& given)
    : x(rows_of(given) ? given : torch::stable::contiguous(given)), rows(*rows_of(x)) {
  const Shape shape = shape_of(x);
  extent = {shape.samples, shape.rows(rows), shape.columns(rows)};
}

Tensor FeatureMap::writable(const Tensor& out) const {
  return as_matrix(out, rows) ? out : torch::stable::empty_like(x);
}

Matrix FeatureMap::readable(const Tensor& grad, Tensor& owner) const {
  if (as_matrix(grad, rows)) {
    owner = grad;
  } else if (repeats_one_number(grad)) {
    Tensor number = grad;
    for (int64_t d = 0; d < 4; ++d) number = torch::stable::narrow(number, d, 0, 1);
    owner = torch::stable::new_empty(x, {1, 1, 1, extent.columns});
    torch::stable::copy_(owner, number);
    return {owner.data_ptr(), 0, 0};
  } else {
    owner = torch::stable::empty_like(x);
    if (!as_matrix(owner, rows)) owner = torch::stable::new_empty(x, x.sizes());
    torch::stable::copy_(owner, grad);
  }
  return matrix_of(owner, rows);
}

}  // namespace bam_fused::cuda
