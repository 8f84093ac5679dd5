// How an operation sees a tensor (N, C, H, W): per sample a matrix of rows, each a run of adjacent columns in memory.
//
//   Rows::channels    rows are the C channels, columns the H*W positions    (NCHW, "contiguous")
//   Rows::positions   rows are the H*W positions, columns the C channels    (NHWC, "channels_last")
//
// One kernel serves both: channel and spatial logits change places. Views with their own sample and row strides (a slice of
// the channels, any storage offset) are matrices too; whatever is not is copied by the caller.
#pragma once

#include <cstdint>
#include <optional>

#include "stable.h"

namespace bam_fused {

enum class Rows { channels, positions };

// Strides in elements; adjacent columns are adjacent in memory.
struct Matrix {
  int64_t stride_sample;
  int64_t stride_row;
};

struct Shape {
  int64_t samples, channels, positions;

  int64_t rows(Rows which) const { return which == Rows::channels ? channels : positions; }
  int64_t columns(Rows which) const { return which == Rows::channels ? positions : channels; }
  int64_t elements() const { return samples * channels * positions; }
};

inline Shape shape_of(const Tensor& x) { return {x.size(0), x.size(1), x.size(2) * x.size(3)}; }

// The matrix that a tensor is with these rows, if it is one. Strides of dimensions of size 1 mean nothing and are ignored.
inline std::optional<Matrix> as_matrix(const Tensor& t, Rows rows) {
  const int64_t c = t.size(1), h = t.size(2), w = t.size(3);
  const int64_t step = w > 1 ? t.stride(3) : t.stride(2);  // from one position to the next
  if (h > 1 && w > 1 && t.stride(2) != w * step) return std::nullopt;
  const bool one_position = h * w == 1;
  if (rows == Rows::channels) {
    if (!one_position && step != 1) return std::nullopt;
    return Matrix{t.stride(0), t.stride(1)};
  }
  if (c > 1 && t.stride(1) != 1) return std::nullopt;
  return Matrix{t.stride(0), one_position ? 0 : step};
}

// The rows by which a tensor is a matrix, the longer ones where it is one either way; nullopt where it is none.
inline std::optional<Rows> rows_of(const Tensor& t) {
  const bool channels = as_matrix(t, Rows::channels).has_value();
  const bool positions = as_matrix(t, Rows::positions).has_value();
  if (channels && positions) return t.size(1) > t.size(2) * t.size(3) ? Rows::positions : Rows::channels;
  if (channels) return Rows::channels;
  if (positions) return Rows::positions;
  return std::nullopt;
}

// True for a tensor that repeats one number, as the gradient of `sum()` does: every stride that counts is 0.
inline bool repeats_one_number(const Tensor& t) {
  for (int64_t d = 0; d < t.dim(); ++d) {
    if (t.size(d) > 1 && t.stride(d) != 0) return false;
  }
  return true;
}

}  // namespace bam_fused
