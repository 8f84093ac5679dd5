#include "features.h"

namespace bam_fused::cpu {
namespace {

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

Features empty_features(const Tensor& t, int64_t n, int64_t c, int64_t h, int64_t w) {
  const int64_t row = padded(t, c), unit = 64 / compute_bytes(t), sample = (h * w * row + unit - 1) / unit * unit;
  Tensor memory = workspace(t, {n * sample + unit});
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory.data_ptr()) + 63) / 64 * 64;
  const int64_t offset =
      static_cast<int64_t>(begin - reinterpret_cast<uintptr_t>(memory.data_ptr())) / compute_bytes(t);
  if (row != c) torch::stable::zero_(memory);
  Tensor samples = torch::stable::view(torch::stable::narrow(memory, 0, offset, n * sample), {n, sample});
  Tensor rows = torch::stable::reshape(torch::stable::narrow(samples, 1, 0, h * w * row), {n, h, w, row});
  return {rows, {reinterpret_cast<void*>(begin), sample * compute_bytes(t)}};
}

Features features_to_write(Tensor& t) {
  return is_features(t) ? Features{t, {t.data_ptr(), sample_bytes(t)}}
                        : empty_features(t, t.size(0), t.size(1), t.size(2), t.size(3));
}

Features features_of(const Tensor& t) {
  if (is_features(t)) return {t, {const_cast<void*>(t.const_data_ptr()), sample_bytes(t)}};
  Features copy = empty_features(t, t.size(0), t.size(1), t.size(2), t.size(3));
  Tensor channels = torch::stable::narrow(copy.memory, 3, 0, t.size(1));
  torch::stable::copy_(channels, channels_to_end(t));
  return copy;
}

void finish_features(const Features& written, Tensor& t) {
  if (written.memory.data_ptr() == t.data_ptr()) return;
  Tensor to = channels_to_end(t), rows = written.memory;
  torch::stable::copy_(to, torch::stable::narrow(rows, 3, 0, t.size(1)));
}

}  // namespace bam_fused::cpu
