// What the operators accept. The messages are short: Python explains bad input in full (bam_fused/checks.py).
#pragma once

#include <optional>
#include <stdexcept>
#include <string>

#include "combine.h"
#include "stable.h"

namespace bam_fused {

// A RuntimeError with these words unless `holds`. PyTorch's own macro puts the function, the file and the line before
// them.
template <class... Words> void require(bool holds, const Words&... words) {
  if (!holds) throw std::runtime_error((std::string() + ... + words));
}

inline Combine parse_combine(const std::string& name) {
  if (name == "sum") return Combine::sum;
  if (name == "product") return Combine::product;
  require(name == "max", "combine must be \"sum\", \"product\" or \"max\", got \"", name, "\"");
  return Combine::max;
}

inline void check_feature_map(const Tensor& x) {
  const ScalarType t = x.scalar_type();
  require(
      t == ScalarType::Float || t == ScalarType::Double || t == ScalarType::Half || t == ScalarType::BFloat16,
      "x must be float32, float64, float16 or bfloat16");
  require(x.dim() == 4, "x must be (N, C, H, W)");
}

namespace detail {

inline void check_logits(const Tensor& x, const Tensor& logits, const char* name) {
  const ScalarType t = logits.scalar_type();
  require(t == x.scalar_type() || t == ScalarType::Float, name, " must be float32 or of x's dtype");
  require(logits.device() == x.device(), name, " must be on x's device");
}

}  // namespace detail

inline void check_gate(const Tensor& x, const Tensor& channel_logits, const Tensor& spatial_logits) {
  check_feature_map(x);
  detail::check_logits(x, channel_logits, "channel_logits");
  detail::check_logits(x, spatial_logits, "spatial_logits");
  const auto size = x.sizes(), c = channel_logits.sizes(), s = spatial_logits.sizes();
  require(
      (c.size() == 2 || (c.size() == 4 && c[2] == 1 && c[3] == 1)) && c[0] == size[0] && c[1] == size[1],
      "channel_logits must be (N, C) or (N, C, 1, 1) of x");
  const size_t h = s.size() - 2, w = s.size() - 1;
  require(
      (s.size() == 3 || (s.size() == 4 && s[1] == 1)) && s[0] == size[0] && s[h] == size[2] && s[w] == size[3],
      "spatial_logits must be (N, H, W) or (N, 1, H, W) of x");
}

inline void check_grad(const Tensor& grad, const Tensor& x) {
  bool same = grad.scalar_type() == x.scalar_type() && grad.device() == x.device() && grad.dim() == 4;
  for (int64_t d = 0; same && d < 4; ++d) same = grad.size(d) == x.size(d);
  require(same, "grad must have x's shape, dtype and device");
}

inline void check_squeeze(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  check_feature_map(x);
  require(
      weight.scalar_type() == x.scalar_type() && weight.device() == x.device(),
      "weight must have x's dtype and device");
  require(
      (weight.dim() == 2 || (weight.dim() == 4 && weight.size(2) == 1 && weight.size(3) == 1)) &&
          weight.size(1) == x.size(1) && weight.size(0) > 0,
      "weight must be (R, C) or (R, C, 1, 1)");
  if (!bias) return;
  require(
      bias->scalar_type() == x.scalar_type() && bias->device() == x.device(), "bias must have x's dtype and device");
  require(bias->dim() == 1 && bias->size(0) == weight.size(0), "bias must be (R,)");
}

}  // namespace bam_fused
