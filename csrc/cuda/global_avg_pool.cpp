// The operator global_avg_pool on CUDA devices.
#include "../shared/global_avg_pool.h"

#include "global_avg_pool_kernel.h"
#include "operators.h"
#include "tensors.h"

namespace bam_fused::cuda {

Tensor global_avg_pool_operator(const Tensor& x) {
  return bam_fused::global_avg_pool(x, [&](const PoolCall& call) {
    on_device(x, [&](const Target& target) {
      Memory memory(x);
      global_avg_pool(extent_of(call.map), dtype_of(x), call.map.rows_are_channels(), call.x, results_of(call.means),
                      target, std::ref(memory));
    });
  });
}

}  // namespace bam_fused::cuda
