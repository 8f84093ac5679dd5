// What the operators accept. The messages are terse: Python explains bad input in full (bam_fused/checks.py).
#pragma once

#include <string>

#include "combine.h"
#include "stable.h"

namespace bam_fused {

inline Combine parse_combine(const std::string& name) {
  if (name == "sum") return Combine::sum;
  if (name == "product") return Combine::product;
  STD_TORCH_CHECK(name == "max", "combine");
  return Combine::max;
}

inline void check_feature_map(const Tensor& x) {
  const ScalarType t = x.scalar_type();
  STD_TORCH_CHECK(t == ScalarType::Float || t == ScalarType::Double || t == ScalarType::Half || t == ScalarType::BFloat16,
                  "x: dtype");
  STD_TORCH_CHECK(x.dim() == 4, "x: rank");
}

namespace detail {

inline void check_logits(const Tensor& x, const Tensor& logits, const char* name) {
  const ScalarType t = logits.scalar_type();
  STD_TORCH_CHECK(t == x.scalar_type() || t == ScalarType::Float, name, ": dtype");
  STD_TORCH_CHECK(logits.device() == x.device(), name, ": device");
  STD_TORCH_CHECK(logits.dim() >= 2 && logits.size(0) == x.size(0), name, ": shape");
}

}  // namespace detail

inline void check_gate(const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits) {
  check_feature_map(x);
  detail::check_logits(x, channel_logits, "channel_logits");
  detail::check_logits(x, spatial_logits, "spatial_logits");
  const int64_t rank_c = channel_logits.dim(), rank_s = spatial_logits.dim();
  STD_TORCH_CHECK((rank_c == 2 || (rank_c == 4 && channel_logits.size(2) == 1 && channel_logits.size(3) == 1)) &&
                      channel_logits.size(1) == x.size(1),
                  "channel_logits: shape");
  STD_TORCH_CHECK((rank_s == 3 || (rank_s == 4 && spatial_logits.size(1) == 1)) &&
                      spatial_logits.size(rank_s - 2) == x.size(2) && spatial_logits.size(rank_s - 1) == x.size(3),
                  "spatial_logits: shape");
}

inline void check_grad(const Tensor& grad, const Tensor& x) {
  STD_TORCH_CHECK(grad.scalar_type() == x.scalar_type() && grad.device() == x.device() && grad.dim() == 4, "grad");
  for (int64_t d = 0; d < 4; ++d) STD_TORCH_CHECK(grad.size(d) == x.size(d), "grad: shape");
}

}  // namespace bam_fused
