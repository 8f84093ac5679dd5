// How a launch is cut into tiles. No header of PyTorch here: kernels include this.
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

}  // namespace bam_fused::cpu
