// The operator global_avg_pool on the CPU.
#include "../arguments.h"
#include "dispatch.h"

namespace bam_fused::cpu {
namespace {

Tensor global_avg_pool(const Tensor& x) {
  check_feature_map(x);
  Tensor out = torch::stable::new_empty(x, {x.size(0), x.size(1)});
  if (out.numel() == 0) return out;
  const FeatureMap map({&x});
  const View read = map.readable(x);
  const Shape& shape = map.shape;
  const Tiling tiling = tiling_of(shape, map.rows, accumulator_of(x) == ScalarType::Double ? 8 : 4);
  const bool rows_are_channels = map.rows_are_channels();
  const int64_t partials = rows_are_channels ? tiling.column_tiles : tiling.row_tiles;
  const Tensor sums = workspace(x, {shape.samples, partials, shape.channels});
  const PoolArguments arguments{
      tiling,
      map_of(read),
      rows_are_channels ? sums.data_ptr() : nullptr,
      rows_are_channels ? nullptr : sums.data_ptr()};
  for_tiles(kernels().global_avg_pool[storage_of(x)], arguments, tiling.tiles(), shape.elements());
  sum_partials(x, sums, out, shape.samples, partials, 1.0 / static_cast<double>(shape.positions));
  return out;
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) {
  m.impl("global_avg_pool", TORCH_BOX(&bam_fused::cpu::global_avg_pool));
}
