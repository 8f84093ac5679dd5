#include "features.h"

namespace bam_fused::cpu {
namespace {

// Fresh features of t's size, as what it may be copied from or to.
Features features_for(const Tensor& t) { return empty_features(t, t.size(0), t.size(1), t.size(2) * t.size(3)); }

// Their channels that are no padding, (N, H, W, C).
Tensor channels_of(const Features& features, const Tensor& t) {
  const int64_t bytes = compute_bytes(t), sample = features.each.sample_bytes / bytes, row = padded(t, t.size(1));
  const int64_t n = t.size(0), h = t.size(2), w = t.size(3);
  const int64_t begin =
      static_cast<char*>(features.each.data) - static_cast<const char*>(features.memory.const_data_ptr());
  Tensor memory = features.memory;
  Tensor samples = torch::stable::view(torch::stable::narrow(memory, 0, begin / bytes, n * sample), {n, sample});
  Tensor rows = torch::stable::reshape(torch::stable::narrow(samples, 1, 0, h * w * row), {n, h, w, row});
  return torch::stable::narrow(rows, 3, 0, t.size(1));
}

// (N, C, H, W) as (N, H, W, C) and back, views both.
Tensor channels_to_end(const Tensor& t) { return torch::stable::transpose(torch::stable::transpose(t, 1, 2), 2, 3); }

int64_t sample_bytes(const Tensor& t) { return t.size(1) * t.size(2) * t.size(3) * compute_bytes(t); }

bool is_features(const Tensor& t) {
  const int64_t c = t.size(1), h = t.size(2), w = t.size(3);
  return t.scalar_type() == compute_dtype(t) && padded(t, c) == c && sample_bytes(t) % 64 == 0 &&
         reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 64 == 0 && t.stride(1) == 1 && t.stride(3) == c &&
         t.stride(2) == w * c && t.stride(0) == h * w * c;
}

}  // namespace

Features empty_features(const Tensor& t, int64_t n, int64_t c, int64_t positions) {
  const int64_t bytes = lines(positions * padded(t, c) * compute_bytes(t));
  const Tensor memory = workspace(t, {(n * bytes + kLine) / compute_bytes(t)});
  return {memory, {reinterpret_cast<void*>(lines(reinterpret_cast<intptr_t>(memory.data_ptr()))), bytes}};
}

Features features_to_write(Tensor& t) {
  return is_features(t) ? Features{t, {t.data_ptr(), sample_bytes(t)}} : features_for(t);
}

Features features_of(const Tensor& t) {
  if (is_features(t)) return {t, {const_cast<void*>(t.const_data_ptr()), sample_bytes(t)}};
  Features copy = features_for(t);
  if (padded(t, t.size(1)) != t.size(1)) torch::stable::zero_(copy.memory);
  Tensor channels = channels_of(copy, t);
  torch::stable::copy_(channels, channels_to_end(t));
  return copy;
}

void finish_features(const Features& written, Tensor& t) {
  if (written.memory.data_ptr() == t.data_ptr()) return;
  Tensor to = channels_to_end(t);
  torch::stable::copy_(to, channels_of(written, t));
}

}  // namespace bam_fused::cpu
