// How an operation sees a tensor (N, C, H, W): per sample its rows, each a run of adjacent columns in memory.
//
//   Rows::channels    rows are the C channels, columns the H*W positions    (NCHW, "contiguous")
//   Rows::positions   rows are the H*W positions, columns the C channels    (NHWC, "channels_last")
//
// One kernel serves both: channel and spatial logits change places. Views with their own sample and row strides (a
// slice of the channels, any storage offset, rows or samples that repeat) are seen so too; of what can not be, a copy
// is made.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "layout.h"
#include "stable.h"

namespace bam_fused {

enum class Rows { channels, positions };

struct Shape {
  int64_t samples, channels, positions;

  int64_t rows(Rows which) const { return which == Rows::channels ? channels : positions; }
  int64_t columns(Rows which) const { return which == Rows::channels ? positions : channels; }
  int64_t elements() const { return samples * channels * positions; }
};

inline Shape shape_of(const Tensor& x) { return {x.size(0), x.size(1), x.size(2) * x.size(3)}; }

// The strides of a tensor seen with some rows, or that it cannot be seen so: `match` asks its caller for both answers.
class StridesIfAny {
 public:
  StridesIfAny() = default;
  StridesIfAny(Strides strides) : strides_(strides), any_(true) {}

  bool any() const { return any_; }

  template <class Found, class Missing>
  auto match(Found&& found, Missing&& missing) const {
    return any_ ? found(strides_) : missing();
  }

 private:
  Strides strides_{};
  bool any_ = false;
};

// The strides of dimensions of size 1 mean nothing and are ignored.
inline StridesIfAny strides_of(const Tensor& t, Rows rows) {
  const auto size = t.sizes(), stride = t.strides();
  const int64_t h = size[2], w = size[3];
  const int64_t step = w > 1 ? stride[3] : stride[2];  // from one position to the next
  const bool one_position = h == 1 && w == 1;
  if (h > 1 && w > 1 && stride[2] != w * step) return {};
  if (rows == Rows::channels) {
    if (one_position || step == 1) return Strides{stride[0], stride[1]};
    return {};
  }
  if (size[1] > 1 && stride[1] != 1) return {};
  return Strides{stride[0], one_position ? 0 : step};
}

// The rows that most tensors of a call have, the longer ones where it is all the same: they decide for the whole call,
// and the others are copied.
inline Rows choose_rows(std::initializer_list<const Tensor*> tensors) {
  int channels = 0, positions = 0;
  for (const Tensor* t : tensors) {
    channels += strides_of(*t, Rows::channels).any();
    positions += strides_of(*t, Rows::positions).any();
  }
  if (channels != positions) return channels > positions ? Rows::channels : Rows::positions;
  const Shape shape = shape_of(**tensors.begin());
  return shape.channels > shape.positions ? Rows::positions : Rows::channels;
}

}  // namespace bam_fused
