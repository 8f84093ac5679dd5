// The operator global_avg_pool on the CPU.
#include "../shared/global_avg_pool.h"

#include "dispatch.h"
#include "kernels/global_avg_pool.h"

namespace bam_fused::cpu {
namespace {

Tensor global_avg_pool(const Tensor& x) {
  return bam_fused::global_avg_pool(x, [&](const PoolCall& call) {
    const Tiling tiling = tiling_of(call.map, x);
    const Shape& shape = call.map.shape;
    const bool rows_are_channels = call.map.rows_are_channels();
    const int64_t partials = rows_are_channels ? tiling.column_tiles : tiling.row_tiles;
    const Tensor sums = workspace(x, {partials, call.means.numel()});
    const PoolArguments arguments{
        tiling, call.x, rows_are_channels ? sums.data_ptr() : nullptr, rows_are_channels ? nullptr : sums.data_ptr()};
    for_tiles(arguments, dtype_of(x), tiling.tiles(), x.numel());
    sum_partials(x, sums, call.means, shape.samples, partials, 1.0 / static_cast<double>(shape.positions));
  });
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) {
  m.impl("global_avg_pool.compiled", TORCH_BOX(&bam_fused::cpu::global_avg_pool));
}
