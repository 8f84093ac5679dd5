// The operator global_avg_pool on CUDA devices.
#include "../shared/global_avg_pool.h"

#include "core/registration.h"
#include "kernels.h"
#include "tensors.h"

namespace bam_fused::cuda {
namespace {

Tensor global_avg_pool_operator(const Tensor& x) {
  return bam_fused::global_avg_pool(x, [&](const PoolCall& call) {
    on_device(x, [&](const Target& target) {
      Memory memory(x);
      global_avg_pool(
          extent_of(call.map), dtype_of(x), call.map.rows_are_channels(), call.x, results_of(call.means), target,
          std::ref(memory));
    });
  });
}

}  // namespace
}  // namespace bam_fused::cuda

BAM_OPERATORS(m) { m.impl("global_avg_pool.compiled", TORCH_BOX(&bam_fused::cuda::global_avg_pool_operator)); }
