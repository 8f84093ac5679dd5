// How a launch is cut into tiles.
#pragma once

#include <stdint.h>

namespace bam_fused::cpu {

// A launch over all samples, cut into tiles of rows and columns. The cut depends on C, H and W alone, never on the
// number of samples or threads: so do the results, to the bit.
struct Tiling {
  int64_t samples, rows, columns;
  int64_t tile_rows, tile_columns;  // the size of a tile
  int64_t row_tiles, column_tiles;  // how many there are per sample

  int64_t tiles() const { return samples * row_tiles * column_tiles; }
};

constexpr int64_t kMaxTileRows = 32;
// In the compute type: whole rows of maps up to 64x64. The halves of longer runs arrive from memory half as fast, which
// costs more than column logits, terms and sums that only the L2 cache has room for.
constexpr int64_t kMaxTileColumnBytes = 16384;

}  // namespace bam_fused::cpu
