// The launch of global_avg_pool on the CPU.
#include "../operations/global_avg_pool.h"

#include "run_tiles.h"

BAM_TILED(PoolCall)

namespace bam_fused {

void launch(const PoolCall& call, const Target& target) {
  const int64_t positions = call.of_rows ? call.extent.columns : call.extent.rows;
  cpu::Sums means{{}, {}, 1.0 / static_cast<double>(positions)};
  (call.of_rows ? means.of_rows : means.of_columns) = call.means;
  cpu::run_tiles(call, target, means);
}

}  // namespace bam_fused
