// Pooled sums and the 1x1 reduction of one tile of positions, from one read of x.
//
// A tile is taken block by block of channels: each is pooled and multiplied with as many weights while it is in the L1 cache,
// and meanwhile the next one is on its way from memory. Sums of positions x vectors of outputs are kept until the tile's last
// channel.
#include "squeeze.h"

#include "columns.h"
#include "squeeze_block.h"

namespace bam_fused::cpu {
namespace {

constexpr int64_t kMostOutputs = 128;  // reduced channels per read of a tile
constexpr int64_t kLongestSum = 24;    // of channels, in registers: one long run of additions rounds worse

// The outputs that a tile's sums are for.
struct Outputs {
  int64_t first, count;
};

// sums[position, output] (+)= block[position, channel] * weight[channel, output]
template <class T, bool rows_are_channels, class A = Compute<T>>
inline void multiply_block(
    const SqueezeBlock<T>& block, int64_t positions, int64_t depth, const A* weight, int64_t weight_row,
    int64_t outputs, A* sums, bool add, Ahead& ahead) {
  const int64_t stride = padded<A>(outputs), left_stride = rows_are_channels ? block.channel_step : block.position_step;
  for_vector_pairs<A>(outputs, [&](int64_t o, auto vectors) {
    constexpr int v = decltype(vectors)::value;
    for_even_blocks(positions, kBlockRows<v>, [&](int64_t p, int64_t size) {
      ahead.step();
      with_constant<kBlockRows<v>>(size, [&](auto rows) {
        for_even_blocks(depth, kLongestSum, [&](int64_t c, int64_t length) {
          multiply<A, decltype(rows)::value, v, rows_are_channels>(
              block.x + p * block.position_step + c * block.channel_step, left_stride, weight + c * weight_row + o,
              weight_row, length, sums + p * stride + o, stride, add || c > 0);
        });
      });
    });
  });
}

inline int64_t steps_of(int64_t positions, int64_t vectors) {
  const auto blocks = [](int64_t length, int64_t most) { return (length + most - 1) / most; };
  return blocks(vectors, kBlockVectors) * blocks(positions, kBlockRows<kBlockVectors>);
}

// The sums, finished: features, or the reduction where rows are positions.
template <class T, class A = Compute<T>>
inline void write_positions(const SqueezeArguments& a, const SqueezeTile& tile, const A* sums, const Outputs& outputs) {
  const int64_t stride = padded<A>(outputs.count);
  for (int64_t p = 0; p < tile.count; ++p, sums += stride) {
    if (a.features.data) {
      A* to = (A*)a.features.at(tile.sample) + (tile.position + p) * padded<A>(a.outputs) + outputs.first;
      for (int64_t o = 0; o < stride; o += kLanes<A>) {
        store(to + o, finished<A>(load(sums + o), a.finish, outputs.first + o));
      }
    } else {
      T* to = (T*)a.reduced.data + tile.sample * a.reduced.strides.sample +
              (tile.position + p) * a.reduced.strides.row + outputs.first;
      for_columns<A>(outputs.count, [&](int64_t o, auto part) {
        store(to + o, finished<A>(load(sums + o), a.finish, outputs.first + o), part);
      });
    }
  }
}

// The reduction where rows are channels.
template <class T, class A = Compute<T>>
inline void write_channels(const SqueezeArguments& a, const SqueezeTile& tile, const A* sums, const Outputs& outputs) {
  alignas(64) A row[kMostTilePositions + kLanes<A>];
  const int64_t stride = padded<A>(outputs.count);
  for (int64_t o = 0; o < outputs.count; ++o) {
    const int64_t output = outputs.first + o;
    const Vec<A> scale = splat(((const A*)a.finish.scale)[output]), shift = splat(((const A*)a.finish.shift)[output]);
    T* to =
        (T*)a.reduced.data + tile.sample * a.reduced.strides.sample + output * a.reduced.strides.row + tile.position;
    for (int64_t p = 0; p < tile.count; ++p) row[p] = sums[p * stride + o];
    for_columns<A>(tile.count, [&](int64_t k, auto part) {
      store(to + k, finished<A>(load(row + k, part), scale, shift, a.finish.relu), part);
    });
  }
}

template <class T, bool rows_are_channels> void squeeze_tile(const SqueezeArguments& a, const SqueezeTile& tile) {
  using A = Compute<T>;
  SqueezeBlock<T> block;
  alignas(64) A sums[kMostOutputs * kMostTilePositions];
  const int64_t weight_row = padded<A>(a.outputs);
  for (int64_t first = 0; first == 0 || first < a.outputs; first += kMostOutputs) {
    const Outputs outputs{first, a.outputs - first < kMostOutputs ? a.outputs - first : kMostOutputs};
    const int64_t steps = steps_of(tile.count, padded<A>(outputs.count) / kLanes<A>);
    for_even_blocks(a.channels, block.most_channels(tile), [&](int64_t c, int64_t depth) {
      block.read(a, tile, c, depth, first == 0);
      Ahead ahead = block.ahead(a, tile, c, depth, steps > 0 ? steps : 1);
      const A* weight = (const A*)a.weight + c * weight_row + first;
      multiply_block<T, rows_are_channels>(
          block, tile.count, depth, weight, weight_row, outputs.count, sums, c > 0, ahead);
    });
    if (rows_are_channels && !a.features.data) {
      write_channels<T>(a, tile, sums, outputs);
    } else {
      write_positions<T>(a, tile, sums, outputs);
    }
  }
}

template <class T> void squeeze(const SqueezeArguments& a, int64_t begin, int64_t end) {
  using A = Compute<T>;
  for (int64_t index = begin; index < end; ++index) {
    SqueezeTile tile;
    tile.sample = index / a.tiles;
    tile.position = index % a.tiles * a.tile_positions;
    tile.count = a.positions - tile.position < a.tile_positions ? a.positions - tile.position : a.tile_positions;
    tile.pool = (A*)a.pool_partials + index * a.channels;
    a.rows_are_channels ? squeeze_tile<T, true>(a, tile) : squeeze_tile<T, false>(a, tile);
  }
}

}  // namespace

BAM_KERNEL(SqueezeArguments, squeeze)

}  // namespace bam_fused::cpu
