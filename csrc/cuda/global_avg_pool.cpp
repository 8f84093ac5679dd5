// The operator global_avg_pool on CUDA devices.
#include <limits>

#include "../arguments.h"
#include "global_avg_pool_kernel.h"
#include "operators.h"
#include "tensors.h"

namespace bam_fused::cuda {

Tensor global_avg_pool_operator(const Tensor& x) {
  check_feature_map(x);
  Tensor means = torch::stable::new_empty(x, {x.size(0), x.size(1)});
  if (means.numel() == 0) return means;
  if (x.numel() == 0) return torch::stable::fill_(means, std::numeric_limits<double>::quiet_NaN());  // as eager has it
  on_device(x, [&](const Target& target) {
    const FeatureMap map({&x});
    const View read = map.readable(x);
    Memory memory(x);
    global_avg_pool(extent_of(map), dtype_of(x), map.rows_are_channels(), matrix_of(read), results_of(means), target,
                    std::ref(memory));
  });
  return means;
}

}  // namespace bam_fused::cuda
