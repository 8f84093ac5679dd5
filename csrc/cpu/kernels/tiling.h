// How a launch is cut into tiles.
#pragma once

#include <stdint.h>

namespace bam_fused::cpu {

// A launch over all samples, cut into tiles of rows and columns. The cut depends on C, H and W alone, never on the number
// of samples or threads: so do the results, to the bit.
struct Tiling {
  int64_t samples, rows, columns;
  int64_t tile_rows, tile_columns;  // the size of a tile
  int64_t row_tiles, column_tiles;  // how many there are per sample

  int64_t tiles() const { return samples * row_tiles * column_tiles; }
};

constexpr int64_t kMaxTileRows = 32;
// In the compute type: a tile's column logits, terms and sums stay in the L1 cache.
constexpr int64_t kMaxTileColumnBytes = 8192;

}  // namespace bam_fused::cpu
