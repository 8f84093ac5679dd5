// The launch of global_avg_pool on the CPU.
#include "../operations/global_avg_pool.h"

#include <algorithm>

#include "kernels/global_avg_pool.h"
#include "run_tiles.h"

namespace bam_fused {
namespace cpu {
namespace {

// Positions as rows are added in groups, so that a tile of many errs no more than one of few, and leaves less to be
// added up.
Tiling pool_tiling(const PoolCall& call) {
  const Extent& extent = call.extent;
  if (call.of_rows) return tiling_of(extent, call.dtype);
  constexpr int64_t fewest = 2 * kPoolGroup, most = 8 * kPoolGroup, enough_tiles = 8;
  const int64_t rows = extent.rows / enough_tiles / kPoolGroup * kPoolGroup;
  const bool few = extent.rows * extent.columns <= kFewElements;
  return tiling_of(extent, call.dtype, few ? most : std::clamp(rows, fewest, most));
}

}  // namespace
}  // namespace cpu

void launch(const PoolCall& call, const Target& target) {
  const Extent& extent = call.extent;
  const cpu::Tiling tiling = cpu::pool_tiling(call);
  const int64_t channels = call.of_rows ? extent.rows : extent.columns,
                positions = call.of_rows ? extent.columns : extent.rows,
                partials = call.of_rows ? tiling.column_tiles : tiling.row_tiles;
  const double scale = 1.0 / static_cast<double>(positions);
  const bool complete = partials == 1;  // what a tile has summed
  const cpu::PartialSums sums(
      target, call.dtype, call.means, {extent.samples, partials, channels}, complete ? 1.0 : scale);
  const cpu::TiledPool tiled{call, tiling, sums.data(), complete ? scale : 1.0};
  cpu::for_tiles(tiled, call.dtype, tiling.tiles(), extent.samples * channels * positions);
  sums.add_up();
}

}  // namespace bam_fused
