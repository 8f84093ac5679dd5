// A block of channels of a tile of x, as squeeze multiplies it: pooled, and readable number by number from the L1
// cache.
#pragma once

#include "packing.h"
#include "register_block.h"
#include "shuffle.h"
#include "squeeze.h"

namespace bam_fused::cpu {
namespace {

struct SqueezeTile {
  int64_t sample, position, count;
  void* pool;  // sums over the tile, one per channel
};

template <class T> inline const T* x_at(
    const SqueezeArguments& a, const SqueezeTile& tile, int64_t position, int64_t channel) {
  const int64_t row = a.rows_are_channels ? channel : position, column = a.rows_are_channels ? position : channel;
  return (const T*)a.x.data + tile.sample * a.x.strides.sample + row * a.x.strides.row + column;
}

inline bool pools_all(const SqueezeArguments& a) { return a.pooled_width == a.width; }
inline bool pools(const SqueezeArguments& a, int64_t position) {
  return pools_all(a) || position % a.width < a.pooled_width;
}

// Asks for rows before they are needed, a few at a time: they lie too far apart for the processor to see them coming,
// and all asked for at once they would wait for each other.
class Ahead {
 public:
  template <class T> Ahead(const T* first, int64_t row_stride, int64_t rows, int64_t columns, int64_t steps)
      : row_((const char*)((uintptr_t)first / kLine * kLine)),
        stride_(row_stride * (int64_t)sizeof(T)),
        bytes_(columns * (int64_t)sizeof(T)),
        rows_(rows),
        each_step_((rows + steps - 1) / steps) {}

  void step() {
    const int64_t count = each_step_ < rows_ ? each_step_ : rows_;
    rows_ -= count;
    for (int64_t row = 0; row < count; ++row, row_ += stride_) {
      for (int64_t byte = 0; byte < bytes_; byte += kLine) __builtin_prefetch(row_ + byte, 0, 2);
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  const char* row_;
  int64_t stride_, bytes_, rows_, each_step_;
};

// x itself where its rows are factors as they are and do not fall into the same few sets of the cache, else a copy.
template <class T> struct SqueezeBlock {
  using A = Compute<T>;
  using F = Factor<T>;
  static constexpr bool kPairs = kNumbers<F> > 1;
  static constexpr int64_t kFactors = kSqueezeBlockBytes / (int64_t)sizeof(F);
  alignas(64) F copy[kFactors + kMostTilePositions * kLanes<F>];
  const F* x;
  int64_t position_step, channel_step;

  static int64_t most_depth(const SqueezeTile& tile) {
    const int64_t fitting = kFactors / tile.count;
    return fitting < kHalfBlockDepth ? fitting : fitting < kBlockDepth ? kHalfBlockDepth : kBlockDepth;
  }

  void read(const SqueezeArguments& a, const SqueezeTile& tile, int64_t c, int64_t channels) {
    constexpr int64_t few_sets = 2048, numbers = kNumbers<F>;
    const T* from = x_at<T>(a, tile, tile.position, c);
    const bool down = a.rows_are_channels;
    const int64_t rows = down ? channels : tile.count, columns = down ? tile.count : channels;
    int64_t stride = a.x.strides.row;
    const bool as_it_is = sizeof(T) == sizeof(N) && (down ? !kPairs && stride * (int64_t)sizeof(T) % few_sets != 0
                                                          : channels % numbers == 0 && stride % numbers == 0);
    if (as_it_is) {
      x = (const F*)from;
      stride /= numbers;
    } else {
      x = copy;
      const int64_t to_stride = padded<F>(down ? columns : depth_of<F>(columns));
      down ? pack_down(copy, to_stride, from, stride, rows, columns)
           : pack_along(copy, to_stride, from, stride, rows, columns);
      stride = to_stride;
    }
    position_step = down ? 1 : stride;
    channel_step = down ? stride : 1;
    summed = kPairs ? (const N*)from : (const N*)x;
    summed_row = kPairs ? a.x.strides.row : stride;
  }

  // After the products, which wait less for what is not yet in the L1 cache.
  void pool(const SqueezeArguments& a, const SqueezeTile& tile, int64_t c, int64_t channels) const {
    A* sums = (A*)tile.pool + c;
    a.rows_are_channels ? pool_channels(a, tile, sums, channels) : pool_positions(a, tile, sums, channels);
  }

  // What comes after the next channels: those that there are weights for, then the first of them of the tiles that
  // follow.
  static Ahead ahead(const SqueezeArguments& a, const SqueezeTile& tile, int64_t c, int64_t block, int64_t steps) {
    const int64_t end = a.weight.first_input + a.weight.inputs;
    int64_t position = tile.position, channel = c;
    for (int i = 0; i < 2; ++i) {
      channel += block;
      if (channel < end) continue;
      channel = a.weight.first_input;
      position += tile.count;
    }
    const int64_t left = position < a.positions ? a.positions - position : 0;
    const int64_t count = left < tile.count ? left : tile.count,
                  channels = end - channel < block ? end - channel : block;
    const T* first = x_at<T>(a, tile, position, channel);
    return a.rows_are_channels ? Ahead(first, a.x.strides.row, channels, count, steps)
                               : Ahead(first, a.x.strides.row, count, channels, steps);
  }

 private:
  using N = Number<F>;
  const N* summed;  // what is pooled: x where its numbers are apart, else what it was made of
  int64_t summed_row;

  // As many channels at a time as fill a vector of sums.
  void pool_channels(const SqueezeArguments& a, const SqueezeTile& tile, A* sums, int64_t channels) const {
    int64_t c = 0;
    if (pools_all(a)) {
      for (; c + kLanes<A> <= channels; c += kLanes<A>) {
        Vec<A> sum[kLanes<A>];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes<A>; ++i) sum[i] = sum_vectors(summed + (c + i) * summed_row, tile.count);
        store(sums + c, sum_each<A>(sum));
      }
    }
    for (; c < channels; ++c) {
      const N* channel = summed + c * summed_row;
      sums[c] = pools_all(a) ? sum_lanes<A>(sum_vectors(channel, tile.count)) : A(0);
      for (int64_t p = 0; p < tile.count && !pools_all(a); ++p) {
        if (pools(a, tile.position + p)) sums[c] += load(channel + p, Short{1})[0];
      }
    }
  }

  void pool_positions(const SqueezeArguments& a, const SqueezeTile& tile, A* sums, int64_t channels) const {
    constexpr int64_t rows = 8;
    memset(sums, 0, channels * sizeof(A));
    int64_t p = 0;
    if (pools_all(a)) {
      for (; p + rows <= tile.count; p += rows) add_positions<rows>(sums, p, channels);
    }
    for (; p < tile.count; ++p) {
      if (pools(a, tile.position + p)) add_positions<1>(sums, p, channels);
    }
  }

  template <int64_t rows> void add_positions(A* sums, int64_t p, int64_t channels) const {
    for_columns<A>(channels, [&](int64_t k, auto part) {
      Vec<A> sum{};
      for (int64_t row = 0; row < rows; ++row) sum += load(summed + (p + row) * summed_row + k, part);
      store(sums + k, load(sums + k, part) + only_new<A>(sum, part), part);
    });
  }
};

}  // namespace
}  // namespace bam_fused::cpu
