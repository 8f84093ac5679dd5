// The sums behind global average pooling, on one tile: over the columns of each row, or over the rows of each column.
#include "../../operations/global_avg_pool.h"

#include "columns.h"
#include "tiled.h"
#include "tiles.h"

namespace bam_fused::cpu {
namespace {

template <class T> void sum_over_columns(const Tiled<PoolCall>& arguments, const Tile& tile) {
  using A = Compute<T>;
  const Tiling& tiling = arguments.tiling;
  A* sums =
      (A*)arguments.row_partials + (tile.sample * tiling.column_tiles + tile.column_tile) * tiling.rows + tile.row;
  for (int64_t row = 0; row < tile.rows; ++row) {
    const T* x = row_at<const T>(arguments.x, tile, row);
    sums[row] =
        sum_columns<A>(tile.columns, [&](int64_t k, auto part) { return only_new<A>(load(x + k, part), part); });
  }
}

// Adds `rows` rows of the tile from `row` on, one after the other, to the sums of its columns.
template <class T, int64_t rows, class A = Compute<T>>
inline void add_rows(const Map& map, const Tile& tile, int64_t row, A* sums) {
  const T* x = row_at<const T>(map, tile, row);
  for_columns<A>(tile.columns, [&](int64_t k, auto part) {
    Vec<A> sum = load(sums + k, part);
    for (int64_t i = 0; i < rows; ++i) sum += only_new<A>(load(x + i * map.strides.row + k, part), part);
    store(sums + k, sum, part);
  });
}

template <class T> void sum_over_rows(const Tiled<PoolCall>& arguments, const Tile& tile) {
  using A = Compute<T>;
  constexpr int64_t at_once = 8;
  const Tiling& tiling = arguments.tiling;
  A* sums =
      (A*)arguments.column_partials + (tile.sample * tiling.row_tiles + tile.row_tile) * tiling.columns + tile.column;
  memset(sums, 0, tile.columns * sizeof(A));
  int64_t row = 0;
  for (; row + at_once <= tile.rows; row += at_once) add_rows<T, at_once>(arguments.x, tile, row, sums);
  for (; row < tile.rows; ++row) add_rows<T, 1>(arguments.x, tile, row, sums);
}

template <class T> void global_avg_pool(const Tiled<PoolCall>& arguments, int64_t begin, int64_t end) {
  for (int64_t index = begin; index < end; ++index) {
    const Tile tile = tile_at(arguments.tiling, index);
    arguments.of_rows ? sum_over_columns<T>(arguments, tile) : sum_over_rows<T>(arguments, tile);
  }
}

}  // namespace

BAM_TILED_KERNEL(PoolCall, global_avg_pool)

}  // namespace bam_fused::cpu
