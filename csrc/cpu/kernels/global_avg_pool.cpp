// The sums behind global average pooling, on one tile: over the columns of each row, or over the rows of each column.
#include "global_avg_pool.h"

#include "columns.h"
#include "shuffle.h"
#include "tiles.h"

namespace bam_fused::cpu {
namespace {

// As many rows at a time as fill a vector of sums.
template <class T> void sum_over_columns(const TiledPool& a, const Tile& tile) {
  using A = Compute<T>;
  const A scale = (A)a.scale;
  A* sums = (A*)a.sums + (tile.sample * a.tiling.column_tiles + tile.column_tile) * a.tiling.rows + tile.row;
  const auto sum_row = [&](int64_t row) { return sum_vectors(row_at<const T>(a.x, tile, row), tile.columns); };
  int64_t row = 0;
  for (; row + kLanes<A> <= tile.rows; row += kLanes<A>) {
    Vec<A> sum[kLanes<A>];
    for (int i = 0; i < kLanes<A>; ++i) sum[i] = sum_row(row + i);
    store(sums + row, sum_each<A>(sum) * scale);
  }
  for (; row < tile.rows; ++row) sums[row] = sum_lanes<A>(sum_row(row)) * scale;
}

// Adds the sum of these rows to the sums of their columns: a run of columns at a time in registers, so that x is read
// in long runs.
template <class T, class A = Compute<T>>
inline void add_group(const T* x, int64_t stride, int64_t rows, int64_t columns, A* sums) {
  constexpr int at_once = 16;
  int64_t begin = 0;
  for (; begin + at_once * kLanes<A> <= columns; begin += at_once * kLanes<A>) {
    Vec<A> sum[at_once];
#pragma GCC unroll 16
    for (int i = 0; i < at_once; ++i) sum[i] = load(x + begin + i * kLanes<A>);
    for (int64_t row = 1; row < rows; ++row) {
#pragma GCC unroll 16
      for (int i = 0; i < at_once; ++i) sum[i] += load(x + row * stride + begin + i * kLanes<A>);
    }
#pragma GCC unroll 16
    for (int i = 0; i < at_once; ++i) {
      A* to = sums + begin + i * kLanes<A>;
      store(to, load(to) + sum[i]);
    }
  }
  for_columns<A>(columns - begin, [&](int64_t k, auto part) {
    Vec<A> sum = load(x + begin + k, part);
    for (int64_t row = 1; row < rows; ++row) sum += load(x + row * stride + begin + k, part);
    store(sums + begin + k, load(sums + begin + k, part) + only_new<A>(sum, part), part);
  });
}

template <class T> void sum_over_rows(const TiledPool& a, const Tile& tile) {
  using A = Compute<T>;
  A* sums = (A*)a.sums + (tile.sample * a.tiling.row_tiles + tile.row_tile) * a.tiling.columns + tile.column;
  memset(sums, 0, tile.columns * sizeof(A));
  for (int64_t row = 0, rows; row < tile.rows; row += rows) {
    rows = tile.rows - row < kPoolGroup ? tile.rows - row : kPoolGroup;
    add_group(row_at<const T>(a.x, tile, row), a.x.strides.row, rows, tile.columns, sums);
  }
  for (int64_t k = 0; k < tile.columns; ++k) sums[k] *= (A)a.scale;
}

template <class T> void global_avg_pool(const TiledPool& a, int64_t begin, int64_t end) {
  for (int64_t index = begin; index < end; ++index) {
    const Tile tile = tile_at(a.tiling, index);
    a.of_rows ? sum_over_columns<T>(a, tile) : sum_over_rows<T>(a, tile);
  }
}

}  // namespace

BAM_KERNEL(TiledPool, global_avg_pool)

}  // namespace bam_fused::cpu
