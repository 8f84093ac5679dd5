// From a tile's number to its place: which sample, which rows, which columns.
#pragma once

#include "../../shared/layout.h"
#include "simd.h"
#include "tiling.h"

namespace bam_fused::cpu {
namespace {

struct Tile {
  int64_t sample, row_tile, column_tile;
  int64_t row, rows, column, columns;
};

// The column tiles of the same rows follow each other, so that one thread reads whole rows.
inline Tile tile_at(const Tiling& t, int64_t index) {
  Tile tile;
  tile.column_tile = index % t.column_tiles;
  tile.row_tile = index / t.column_tiles % t.row_tiles;
  tile.sample = index / t.column_tiles / t.row_tiles;
  tile.row = tile.row_tile * t.tile_rows;
  tile.column = tile.column_tile * t.tile_columns;
  tile.rows = t.rows - tile.row < t.tile_rows ? t.rows - tile.row : t.tile_rows;
  tile.columns = t.columns - tile.column < t.tile_columns ? t.columns - tile.column : t.tile_columns;
  return tile;
}

// The first column of the tile in its row number `row`.
template <class T> inline T* row_at(const Map& map, const Tile& tile, int64_t row) {
  return (T*)map.data + tile.sample * map.strides.sample + (tile.row + row) * map.strides.row + tile.column;
}

}  // namespace
}  // namespace bam_fused::cpu
