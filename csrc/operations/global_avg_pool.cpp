// The operator global_avg_pool up to the launch.
#include "global_avg_pool.h"

#include <limits>

#include "../shared/arguments.h"
#include "../shared/feature_map.h"
#include "../shared/registration.h"

namespace bam_fused {
namespace {

// The mean over H and W, NaN where there is nothing to average, as eager has it.
Tensor global_avg_pool(const Tensor& x) {
  check_feature_map(x);
  Tensor means = torch::stable::new_empty(x, {x.size(0), x.size(1)});
  if (means.numel() == 0) return means;
  if (x.numel() == 0) return torch::stable::fill_(means, std::numeric_limits<double>::quiet_NaN());
  const FeatureMap map({&x});
  const View read = map.readable(x);
  launch_on(x, PoolCall{extent_of(map), dtype_of(x), map.rows_are_channels(), read.map, results_of(means)});
  return means;
}

}  // namespace
}  // namespace bam_fused

BAM_OPERATORS(m) { m.impl("global_avg_pool.compiled", TORCH_BOX(&bam_fused::global_avg_pool)); }
