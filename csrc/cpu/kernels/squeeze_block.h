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

// x itself where it is of the compute type and its rows do not fall into the same few sets of the cache, else a copy.
template <class T> struct SqueezeBlock {
  using A = Compute<T>;
  static constexpr int64_t kNumbers = kSqueezeBlockBytes / (int64_t)sizeof(A);
  alignas(64) A copy[kNumbers + kMostTilePositions * kLanes<A>];
  const A* x;
  int64_t position_step, channel_step;

  static int64_t most_channels(const SqueezeTile& tile) {
    const int64_t fitting = kNumbers / tile.count;
    return fitting < kHalfBlockChannels ? fitting : fitting < kBlockChannels ? kHalfBlockChannels : kBlockChannels;
  }

  void read(const SqueezeArguments& a, const SqueezeTile& tile, int64_t c, int64_t depth) {
    constexpr int64_t few_sets = 2048;
    const T* from = x_at<T>(a, tile, tile.position, c);
    const int64_t rows = a.rows_are_channels ? depth : tile.count, columns = a.rows_are_channels ? tile.count : depth;
    int64_t stride = a.x.strides.row;
    x = (const A*)from;
    if (sizeof(T) != sizeof(A) || (a.rows_are_channels && stride * (int64_t)sizeof(T) % few_sets == 0)) {
      pack_rows(copy, padded<A>(columns), from, stride, rows, columns);
      x = copy;
      stride = padded<A>(columns);
    }
    position_step = a.rows_are_channels ? 1 : stride;
    channel_step = a.rows_are_channels ? stride : 1;
  }

  // After the products, which wait less for what is not yet in the L1 cache.
  void pool(const SqueezeArguments& a, const SqueezeTile& tile, int64_t c, int64_t depth) const {
    A* sums = (A*)tile.pool + c;
    a.rows_are_channels ? pool_channels(a, tile, sums, depth) : pool_positions(a, tile, sums, depth);
  }

  // What comes after the next channels: those that there are weights for, then the first of them of the tiles that
  // follow.
  static Ahead ahead(const SqueezeArguments& a, const SqueezeTile& tile, int64_t c, int64_t depth, int64_t steps) {
    const int64_t end = a.weight.first_input + a.weight.inputs;
    int64_t position = tile.position, channel = c;
    for (int i = 0; i < 2; ++i) {
      channel += depth;
      if (channel < end) continue;
      channel = a.weight.first_input;
      position += tile.count;
    }
    const int64_t left = position < a.positions ? a.positions - position : 0;
    const int64_t count = left < tile.count ? left : tile.count,
                  channels = end - channel < depth ? end - channel : depth;
    const T* first = x_at<T>(a, tile, position, channel);
    return a.rows_are_channels ? Ahead(first, a.x.strides.row, channels, count, steps)
                               : Ahead(first, a.x.strides.row, count, channels, steps);
  }

 private:
  // As many channels at a time as fill a vector of sums.
  void pool_channels(const SqueezeArguments& a, const SqueezeTile& tile, A* sums, int64_t depth) const {
    int64_t c = 0;
    if (pools_all(a)) {
      for (; c + kLanes<A> <= depth; c += kLanes<A>) {
        Vec<A> sum[kLanes<A>];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes<A>; ++i) sum[i] = sum_vectors(x + (c + i) * channel_step, tile.count);
        store(sums + c, sum_each<A>(sum));
      }
    }
    for (; c < depth; ++c) {
      const A* channel = x + c * channel_step;
      sums[c] = pools_all(a) ? sum_lanes<A>(sum_vectors(channel, tile.count)) : A(0);
      for (int64_t p = 0; p < tile.count && !pools_all(a); ++p) {
        if (pools(a, tile.position + p)) sums[c] += channel[p];
      }
    }
  }

  void pool_positions(const SqueezeArguments& a, const SqueezeTile& tile, A* sums, int64_t depth) const {
    constexpr int64_t rows = 8;
    memset(sums, 0, depth * sizeof(A));
    int64_t p = 0;
    if (pools_all(a)) {
      for (; p + rows <= tile.count; p += rows) add_positions<rows>(sums, p, depth);
    }
    for (; p < tile.count; ++p) {
      if (pools(a, tile.position + p)) add_positions<1>(sums, p, depth);
    }
  }

  template <int64_t rows> void add_positions(A* sums, int64_t p, int64_t depth) const {
    for_columns<A>(depth, [&](int64_t k, auto part) {
      Vec<A> sum{};
      for (int64_t row = 0; row < rows; ++row) sum += load(x + (p + row) * position_step + k, part);
      store(sums + k, load(sums + k, part) + only_new<A>(sum, part), part);
    });
  }
};

}  // namespace
}  // namespace bam_fused::cpu
