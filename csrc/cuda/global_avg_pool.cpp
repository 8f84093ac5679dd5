// The operator global_avg_pool on CUDA devices.
#include <limits>

#include "../arguments.h"
#include "global_avg_pool_kernel.h"
#include "tensors.h"

namespace bam_fused::cuda {
namespace {

Tensor global_avg_pool_operator(const Tensor& x) {
  check_feature_map(x);
  Tensor means = torch::stable::new_empty(x, {x.size(0), x.size(1)});
  if (means.numel() == 0) return means;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  if (x.numel() == 0) return torch::stable::fill_(means, std::numeric_limits<double>::quiet_NaN());  // as eager has it
  const FeatureMap map(x);
  Memory memory(x);
  global_avg_pool(map.extent, dtype_of(x), map.rows_are_channels(), matrix_of(map.x, map.rows), results_of(means),
                  target_of(x), std::ref(memory));
  return means;
}

}  // namespace
}  // namespace bam_fused::cuda

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CUDA, m) {
  m.impl("global_avg_pool", TORCH_BOX(&bam_fused::cuda::global_avg_pool_operator));
}
