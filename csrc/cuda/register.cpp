// Hands the operators to PyTorch's dispatcher.
#include "operators.h"

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CUDA, m) {
  m.impl("gate", TORCH_BOX(&bam_fused::cuda::gate_operator));
  m.impl("gate_backward", TORCH_BOX(&bam_fused::cuda::gate_backward_operator));
  m.impl("global_avg_pool", TORCH_BOX(&bam_fused::cuda::global_avg_pool_operator));
}
