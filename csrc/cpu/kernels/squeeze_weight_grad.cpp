// The gradient of the weight behind a squeeze: over samples and positions, reduced gradient times x, from one read of
// x.
//
// Where rows are channels the sums are [channels, reduced], x's numbers one by one against vectors of the reduced
// gradient; where they are positions [reduced, channels], against vectors of x. A split is a run of tiles of positions
// over all samples; each has sums of its own, which are added in a fixed order.
#include "squeeze_weight_grad.h"

#include "packing.h"
#include "products.h"

namespace bam_fused::cpu {
namespace {

constexpr int64_t kChannelsAtOnce = 96;  // of x, in the cache while all of the reduced gradient passes by
static_assert(kChannelsAtOnce <= kMaxTilePositions);

struct PositionTile {
  int64_t sample, position, positions;
};

// Rows of x as factors of sums along or down them: x itself where it can be read as the products read it.
template <class T, class F = Factor<T>>
inline const F* along_x(const T* x, int64_t& stride, int64_t rows, int64_t columns, F* memory) {
  constexpr int64_t numbers = kNumbers<F>;
  if (sizeof(T) == sizeof(Number<F>) && columns % numbers == 0 && stride % numbers == 0) {
    stride /= numbers;
    return (const F*)x;
  }
  const int64_t packed = packed_stride<F>(depth_of<F>(columns));
  pack_along(memory, packed, x, stride, rows, columns);
  stride = packed;
  return memory;
}

template <class T, class F = Factor<T>>
inline const F* down_x(const T* x, int64_t& stride, int64_t rows, int64_t columns, F* memory) {
  if (sizeof(T) == sizeof(F) && columns % kLanes<F> == 0) return (const F*)x;
  const int64_t packed = packed_stride<F>(columns);
  pack_down(memory, packed, x, stride, rows, columns);
  stride = packed;
  return memory;
}

template <class T> struct SqueezeWeightGradMemory {
  using F = Factor<T>;
  alignas(64) F reduced[kMaxReducedTile];
  alignas(64) F x[kMaxTilePositions * packed_stride<F>(kMaxTilePositions)];
};

// Adds one tile's products for the channels from `channel` on.
template <class T, class F = Factor<T>, class A = Compute<T>>
inline void add_position_tile(
    const SqueezeWeightGradArguments& a, const PositionTile& tile, int64_t channel, int64_t channels, A* sums,
    int64_t sums_stride, SqueezeWeightGradMemory<T>& memory) {
  const T* x = (const T*)a.x.data + tile.sample * a.x.strides.sample;
  const A* grad = (const A*)a.reduced_grad + tile.sample * a.positions * a.reduced;
  const int64_t depth = depth_of<F>(tile.positions);
  if (a.rows_are_channels) {
    const int64_t packed = packed_stride<A>(a.reduced);
    if (a.grad_has_positions_as_rows) {
      pack_down(memory.reduced, packed, grad + tile.position * a.reduced, a.reduced, tile.positions, a.reduced);
    } else {
      pack_transposed(memory.reduced, packed, grad + tile.position, a.positions, a.reduced, tile.positions);
    }
    for (int64_t c = 0; c < channels; c += kChannelsAtOnce) {
      const int64_t count = channels - c < kChannelsAtOnce ? channels - c : kChannelsAtOnce;
      int64_t stride = a.x.strides.row;
      const F* left = along_x(x + (channel + c) * stride + tile.position, stride, count, tile.positions, memory.x);
      add_product(
          sums + c * sums_stride, sums_stride, count, a.reduced,
          Factors<F>{left, stride, 1, memory.reduced, packed, depth});
    }
  } else {
    const int64_t packed = packed_stride<A>(a.reduced);
    pack_down(memory.reduced, packed, grad + tile.position * a.reduced, a.reduced, tile.positions, a.reduced);
    for (int64_t c = 0; c < channels; c += kChannelsAtOnce) {
      const int64_t count = channels - c < kChannelsAtOnce ? channels - c : kChannelsAtOnce;
      int64_t stride = a.x.strides.row;
      const F* right = down_x(x + tile.position * stride + channel + c, stride, tile.positions, count, memory.x);
      add_product(sums + c, sums_stride, a.reduced, count, Factors<F>{memory.reduced, 1, packed, right, stride, depth});
    }
  }
}

// Tasks begin to end: the splits of the first channels, then those of the next.
template <class T> void squeeze_weight_grad(const SqueezeWeightGradArguments& a, int64_t begin, int64_t end) {
  using A = Compute<T>;
  SqueezeWeightGradMemory<T> memory;
  const int64_t tiles_per_sample = (a.positions + a.tile_positions - 1) / a.tile_positions;
  const int64_t tiles = a.samples * tiles_per_sample;
  const int64_t length = a.rows_are_channels ? a.reduced : a.channels, sums_stride = a.splits * length;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t split = task % a.splits, channel = task / a.splits * a.tile_channels;
    const int64_t channels = a.channels - channel < a.tile_channels ? a.channels - channel : a.tile_channels;
    A* sums = (A*)a.partials + split * length + (a.rows_are_channels ? channel * sums_stride : channel);
    for (int64_t row = 0; row < (a.rows_are_channels ? channels : a.reduced); ++row) {
      memset(sums + row * sums_stride, 0, (a.rows_are_channels ? a.reduced : channels) * sizeof(A));
    }
    for (int64_t t = split * tiles / a.splits; t < (split + 1) * tiles / a.splits; ++t) {
      const int64_t position = t % tiles_per_sample * a.tile_positions, left = a.positions - position;
      const PositionTile tile{t / tiles_per_sample, position, left < a.tile_positions ? left : a.tile_positions};
      add_position_tile<T>(a, tile, channel, channels, sums, sums_stride, memory);
    }
  }
}

}  // namespace

BAM_KERNEL(SqueezeWeightGradArguments, squeeze_weight_grad)

}  // namespace bam_fused::cpu
