// Pooled sums and the 1x1 reduction of one tile of positions, from one read of x.
//
// A tile is taken block by block of channels: each is pooled and multiplied with as many weights while it is in the L1
// cache, and meanwhile the next one is on its way from memory. Sums of positions x vectors of outputs are kept until
// the tile's last channel, where the features will be, if those are wanted: then a call may be for some of the
// channels.
#include "squeeze.h"

#include "columns.h"
#include "squeeze_block.h"

namespace bam_fused::cpu {
namespace {

constexpr int64_t kMostOutputs = 128;  // reduced channels per read of a tile
constexpr int64_t kLongestSum = 32;    // of factors, in registers: one long run of additions rounds worse

// The outputs that a tile's sums are for.
struct Outputs {
  int64_t first, count;
};

// sums[position, output] (+)= x[position, channel] * weight[channel, output] for a block of channels; with the last one
// the sums become features, if those are wanted.
template <class F, class A = Compute<F>> struct BlockProduct {
  const F* x;
  int64_t position_step, channel_step;
  const F* weight;
  int64_t weight_row;
  A* sums;
  int64_t sums_row;
  const Finish* finish;  // null but for the last channels
  Number<F>* rounded;    // where what is finished goes, if not to the sums
  int64_t rounded_row;
  int64_t output;      // the first one
  int64_t depth, run;  // factors of each position, and how many of them are added up in registers
  bool add;
};

// `blocks` blocks of positions, one after the other.
template <class F, bool rows_are_channels, int rows, int vectors>
__attribute__((noinline)) void multiply_blocks(const BlockProduct<F>& p, int64_t blocks, Ahead& ahead) {
  using A = Compute<F>;
  const int64_t position_step = rows_are_channels ? 1 : p.position_step,
                channel_step = rows_are_channels ? p.channel_step : 1;
  const F* x = p.x;
  A* sums = p.sums;
  for (int64_t b = 0; b < blocks; ++b, x += rows * position_step, sums += rows * p.sums_row) {
    ahead.step();
    for (int64_t c = 0; c < p.depth; c += p.run) {
      const bool last = p.depth - c <= p.run;
      Block<A, rows, vectors> block;
      block.clear();
      block.add_products(
          x + c * channel_step, position_step, channel_step, p.weight + c * p.weight_row, p.weight_row,
          last ? p.depth - c : p.run);
      if (p.add || c > 0) block.add(sums, p.sums_row);
      if (last && p.finish) block.finish(*p.finish, p.output);
      if (last && p.rounded) {
        block.store_to(p.rounded + b * rows * p.rounded_row, p.rounded_row);
      } else {
        block.store_to(sums, p.sums_row);
      }
    }
  }
}

template <class F, bool rows_are_channels>
inline void multiply_tile(const BlockProduct<F>& all, int64_t positions, int64_t outputs, Ahead& ahead) {
  for_vector_pairs<Compute<F>>(outputs, [&](int64_t output, auto vectors) {
    constexpr int v = decltype(vectors)::value;
    for_even_runs(positions, kBlockRows<v>, [&](int64_t position, int64_t size, int64_t blocks) {
      BlockProduct<F> p = all;
      p.x += position * p.position_step;
      p.weight += output;
      p.sums += position * p.sums_row + output;
      if (p.rounded) p.rounded += position * p.rounded_row + output;
      p.output += output;
      with_constant<kBlockRows<v>>(
          size, [&](auto rows) { multiply_blocks<F, rows_are_channels, decltype(rows)::value, v>(p, blocks, ahead); });
    });
  });
}

inline int64_t steps_of(int64_t positions, int64_t vectors) {
  const auto blocks = [](int64_t length, int64_t most) { return (length + most - 1) / most; };
  return blocks(vectors, kBlockVectors) * blocks(positions, kBlockRows<kBlockVectors>);
}

// The sums, finished: the reduction where rows are positions.
template <class T, class A = Compute<T>>
inline void write_positions(const SqueezeArguments& a, const SqueezeTile& tile, const A* sums, const Outputs& outputs) {
  const int64_t stride = padded<A>(outputs.count);
  for (int64_t p = 0; p < tile.count; ++p, sums += stride) {
    T* to = (T*)a.reduced.data + tile.sample * a.reduced.strides.sample + (tile.position + p) * a.reduced.strides.row +
            outputs.first;
    for_columns<A>(outputs.count, [&](int64_t o, auto part) {
      store(to + o, finished<A>(load(sums + o), a.finish, outputs.first + o), part);
    });
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

template <class T, bool rows_are_channels>
void squeeze_tile(const SqueezeArguments& a, const SqueezeTile& tile, const Outputs& all, bool pools) {
  using A = Compute<T>;
  using F = Factor<T>;
  SqueezeBlock<T> block;
  alignas(64) A sums[kMostOutputs * kMostTilePositions];
  const int64_t weight_row = padded<A>(a.outputs);
  for (int64_t done = 0; done == 0 || done < all.count; done += kMostOutputs) {
    const int64_t first = all.first + done, left = all.count - done;
    const Outputs outputs{first, left < kMostOutputs ? left : kMostOutputs};
    const int64_t steps = steps_of(tile.count, padded<A>(outputs.count) / kLanes<A>);
    A* features = a.features.data ? (A*)a.features.at(tile.sample) + tile.position * weight_row + first : nullptr;
    for_even_blocks(depth_of<F>(a.weight.inputs), block.most_depth(tile), [&](int64_t begin, int64_t depth) {
      const int64_t from = begin * kNumbers<F>, left = a.weight.inputs - from, c = a.weight.first_input + from;
      const int64_t channels = left < depth * kNumbers<F> ? left : depth * kNumbers<F>;
      block.read(a, tile, c, channels);
      Ahead ahead = block.ahead(a, tile, c, channels, steps > 0 ? steps : 1);
      const int64_t runs = (depth + kLongestSum - 1) / kLongestSum;
      const bool finishes = features && c + channels == a.channels;
      const BlockProduct<F> product{
          block.x,
          block.position_step,
          block.channel_step,
          (const F*)a.weight.data + begin * weight_row + first,
          weight_row,
          features ? features : sums,
          features ? weight_row : padded<A>(outputs.count),
          finishes ? &a.finish : nullptr,
          finishes && a.rounded.data ? (Number<F>*)a.rounded.at(tile.sample) + tile.position * a.rounded_row + first
                                     : nullptr,
          a.rounded_row,
          first,
          depth,
          (depth + runs - 1) / runs,
          c > 0};
      multiply_tile<F, rows_are_channels>(product, tile.count, outputs.count, ahead);
      if (pools && done == 0) block.pool(a, tile, c, channels);
    });
    if (features) continue;
    rows_are_channels ? write_channels<T>(a, tile, sums, outputs) : write_positions<T>(a, tile, sums, outputs);
  }
}

template <class T> void squeeze(const SqueezeArguments& a, int64_t begin, int64_t end) {
  using A = Compute<T>;
  for (int64_t part = begin, next; part < end; part = next) {
    const int64_t index = part / a.groups, group = part - index * a.groups;  // groups of a tile go together
    next = (index + 1) * a.groups < end ? (index + 1) * a.groups : end;
    SqueezeTile tile;
    tile.sample = index / a.tiles;
    tile.position = index % a.tiles * a.tile_positions;
    tile.count = a.positions - tile.position < a.tile_positions ? a.positions - tile.position : a.tile_positions;
    tile.pool = (A*)a.pool_partials.at(tile.sample) + index % a.tiles * a.channels;
    const int64_t first = group * a.group_outputs, last = first + (next - part) * a.group_outputs;
    const Outputs outputs{first, (last < a.outputs ? last : a.outputs) - first};
    a.rows_are_channels ? squeeze_tile<T, true>(a, tile, outputs, group == 0)
                        : squeeze_tile<T, false>(a, tile, outputs, group == 0);
  }
}

}  // namespace

BAM_KERNEL(SqueezeArguments, squeeze)

}  // namespace bam_fused::cpu
