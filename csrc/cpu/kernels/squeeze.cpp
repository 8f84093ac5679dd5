// Pooled sums and the 1x1 reduction of one tile of positions, from one read of x.
//
// A tile is taken block by block of channels: its numbers are brought into the L1 cache as the compute type, summed up for the
// pool, and multiplied there with as many weights. The sums of a tile are kept until its last channel.
#include "squeeze.h"

#include "columns.h"
#include "register_block.h"

namespace bam_fused::cpu {
namespace {

template <class A> constexpr int64_t kStage = 24576 / (int64_t)sizeof(A);  // numbers of x in the L1 cache at a time
constexpr int64_t kMostOutputs = 128;                                      // reduced channels per read of a tile

struct SqueezeTile {
  int64_t sample, position, count;
  void* pool;  // sums over the tile, one per channel
};

template <class T> inline const T* x_at(
    const SqueezeArguments& a, const SqueezeTile& tile, int64_t row, int64_t column) {
  return (const T*)a.x.data + tile.sample * a.x.strides.sample + row * a.x.strides.row + column;
}

inline bool pools(const SqueezeArguments& a, int64_t position) {
  return a.pooled_width == a.width || position % a.width < a.pooled_width;
}

template <class A> inline A* features_at(
    const SqueezeArguments& a, const SqueezeTile& tile, int64_t p, int64_t output) {
  const int64_t row = padded<A>(a.outputs);
  return (A*)a.features.at(tile.sample) + (tile.position + p) * row + output;
}

// Asks for a part of `rows` rows before it is needed: its pieces lie too far apart for the processor to see them coming.
template <class T> inline void prefetch(const SqueezeArguments& a, const T* first, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    const char* row = (const char*)(first + r * a.x.strides.row);
    for (int64_t byte = 0; byte < columns * (int64_t)sizeof(T); byte += 64) __builtin_prefetch(row + byte, 0, 2);
  }
}

// ---- rows are channels (NCHW): outputs x vectors of positions ----

// One channel of the tile, padded with zeros to whole vectors; its sum over the positions that are pooled.
template <class T, class A = Compute<T>>
inline A stage_channel(const SqueezeArguments& a, const SqueezeTile& tile, int64_t channel, A* to) {
  const T* x = x_at<T>(a, tile, channel, tile.position);
  Vec<A> sum{};
  int64_t k = 0;
  for (; k + kLanes<A> <= tile.count; k += kLanes<A>) {
    const Vec<A> v = load(x + k);
    store(to + k, v);
    sum += v;
  }
  if (k < tile.count) {
    const Vec<A> v = load(x + k, Short{tile.count - k});
    store(to + k, v);
    sum += v;
  }
  if (a.pooled_width == a.width) return sum_lanes<A>(sum);
  A some = 0;
  for (k = 0; k < tile.count; ++k) some += pools(a, tile.position + k) ? to[k] : A(0);
  return some;
}

// Writes the sums [outputs, columns] of the outputs from `first` on, finished.
template <class T, class A = Compute<T>>
inline void write_channel_rows(
    const SqueezeArguments& a, const SqueezeTile& tile, A* sums, int64_t columns, int64_t first, int64_t outputs) {
  for (int64_t o = 0; o < outputs; ++o) {
    A* row = sums + o * columns;
    const Vec<A> scale = splat(((const A*)a.finish.scale)[first + o]),
                 shift = splat(((const A*)a.finish.shift)[first + o]);
    T* reduced = (T*)a.reduced.data + tile.sample * a.reduced.strides.sample + (first + o) * a.reduced.strides.row;
    for (int64_t k = 0; k < columns; k += kLanes<A>) {
      const Vec<A> v = finished<A>(load(row + k), scale, shift, a.finish.relu);
      store(row + k, v);
    }
    if (a.reduced.data) {
      for_columns<A>(
          tile.count, [&](int64_t k, auto part) { store(reduced + tile.position + k, load(row + k, part), part); });
    }
  }
  if (a.features.data) {
    for (int64_t p = 0; p < tile.count; ++p) {
      A* to = features_at<A>(a, tile, p, first);
      for (int64_t o = 0; o < outputs; ++o) to[o] = sums[o * columns + p];
      for (int64_t o = outputs; o < padded<A>(outputs); ++o) to[o] = 0;
    }
  }
}

template <class T> void squeeze_channel_rows(const SqueezeArguments& a, const SqueezeTile& tile) {
  using A = Compute<T>;
  alignas(64) A stage[kStage<A>];
  alignas(64) A sums[kMostOutputs * kMostTilePositions];
  const int64_t columns = padded<A>(tile.count), weight_row = padded<A>(a.outputs), block = kStage<A> / columns;
  for (int64_t first = 0; first == 0 || first < a.outputs; first += kMostOutputs) {
    const int64_t outputs = a.outputs - first < kMostOutputs ? a.outputs - first : kMostOutputs;
    for_even_blocks(a.channels, block, [&](int64_t c, int64_t depth) {
      if (first == 0) {
        const bool last = c + depth == a.channels;  // the next channels, or the first ones of the next tile
        prefetch(
            a, last ? x_at<T>(a, tile, 0, tile.position + tile.count) : x_at<T>(a, tile, c + depth, tile.position),
            depth, tile.count);
      }
      for (int64_t i = 0; i < depth; ++i) {
        const A sum = stage_channel<T>(a, tile, c + i, stage + i * columns);
        if (first == 0) ((A*)tile.pool)[c + i] = sum;
      }
      const A* weight = (const A*)a.weight + c * weight_row + first;
      for_vector_pairs<A>(tile.count, [&](int64_t k, auto vectors) {
        constexpr int v = decltype(vectors)::value;
        for_even_blocks(outputs, kBlockRows<v>, [&](int64_t o, int64_t size) {
          with_constant<kBlockRows<v>>(size, [&](auto rows) {
            multiply<A, decltype(rows)::value, v, true>(
                weight + o, weight_row, stage + k, columns, depth, sums + o * columns + k, columns, c > 0);
          });
        });
      });
    });
    write_channel_rows<T>(a, tile, sums, columns, first, outputs);
  }
}

// ---- rows are positions (NHWC): positions x vectors of outputs ----

// The channels c to c + depth of the tile as rows of the compute type: x itself where it is that.
template <class T, class A = Compute<T>>
inline const A* stage_positions(
    const SqueezeArguments& a, const SqueezeTile& tile, int64_t c, int64_t depth, A* stage, int64_t& stride) {
  if constexpr (sizeof(T) == sizeof(A)) {
    stride = a.x.strides.row;
    return x_at<T>(a, tile, tile.position, c);
  } else {
    stride = padded<A>(depth);
    for (int64_t p = 0; p < tile.count; ++p) {
      const T* x = x_at<T>(a, tile, tile.position + p, c);
      for_columns<A>(depth, [&](int64_t k, auto part) { store(stage + p * stride + k, load(x + k, part), part); });
    }
    return stage;
  }
}

template <class T, class A = Compute<T>>
inline void pool_positions(
    const SqueezeArguments& a, const SqueezeTile& tile, const A* rows, int64_t stride, int64_t c, int64_t depth) {
  for_columns<A>(depth, [&](int64_t k, auto part) {
    Vec<A> sum{};
    for (int64_t p = 0; p < tile.count; ++p) {
      if (pools(a, tile.position + p)) sum += load(rows + p * stride + k, part);
    }
    store((A*)tile.pool + c + k, sum, part);
  });
}

template <class T, class A = Compute<T>>
inline void write_position_rows(
    const SqueezeArguments& a, const SqueezeTile& tile, const A* sums, int64_t first, int64_t outputs) {
  const int64_t stride = padded<A>(outputs);
  for (int64_t p = 0; p < tile.count; ++p) {
    if (a.features.data) {
      A* to = features_at<A>(a, tile, p, first);
      for (int64_t o = 0; o < stride; o += kLanes<A>) {
        store(to + o, finished<A>(load(sums + p * stride + o), a.finish, first + o));
      }
    }
    if (a.reduced.data) {
      T* to = (T*)a.reduced.data + tile.sample * a.reduced.strides.sample +
              (tile.position + p) * a.reduced.strides.row + first;
      for_columns<A>(outputs, [&](int64_t o, auto part) {
        store(to + o, finished<A>(load(sums + p * stride + o), a.finish, first + o), part);
      });
    }
  }
}

template <class T> void squeeze_position_rows(const SqueezeArguments& a, const SqueezeTile& tile) {
  using A = Compute<T>;
  alignas(64) A stage[sizeof(T) == sizeof(A) ? 1 : kStage<A> + kMostTilePositions * kLanes<A>];
  alignas(64) A sums[kMostOutputs * kMostTilePositions];
  const int64_t weight_row = padded<A>(a.outputs), block = kStage<A> / tile.count;
  for (int64_t first = 0; first == 0 || first < a.outputs; first += kMostOutputs) {
    const int64_t outputs = a.outputs - first < kMostOutputs ? a.outputs - first : kMostOutputs;
    const int64_t sum_row = padded<A>(outputs);
    for_even_blocks(a.channels, block, [&](int64_t c, int64_t depth) {
      int64_t stride;
      const A* rows_of_x = stage_positions<T>(a, tile, c, depth, stage, stride);
      if (first == 0) {
        const bool last = c + depth == a.channels;  // the next channels, or the first ones of the next tile
        const int64_t next = last ? tile.position + tile.count : tile.position;
        prefetch(a, x_at<T>(a, tile, next, last ? 0 : c + depth), tile.count, depth);
      }
      if (first == 0) pool_positions<T>(a, tile, rows_of_x, stride, c, depth);
      const A* weight = (const A*)a.weight + c * weight_row + first;
      for_vector_pairs<A>(outputs, [&](int64_t o, auto vectors) {
        constexpr int v = decltype(vectors)::value;
        for_even_blocks(tile.count, kBlockRows<v>, [&](int64_t p, int64_t size) {
          with_constant<kBlockRows<v>>(size, [&](auto rows) {
            multiply<A, decltype(rows)::value, v, false>(
                rows_of_x + p * stride, stride, weight + o, weight_row, depth, sums + p * sum_row + o, sum_row, c > 0);
          });
        });
      });
    });
    write_position_rows<T>(a, tile, sums, first, outputs);
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
    a.rows_are_channels ? squeeze_channel_rows<T>(a, tile) : squeeze_position_rows<T>(a, tile);
  }
}

}  // namespace

BAM_KERNEL(SqueezeArguments, squeeze)

}  // namespace bam_fused::cpu
