// The operators of csrc/cuda registered for CPU tensors, as bam_fused_cuda_host::*, over the kernels executed on the CPU.
#include "../../../csrc/cuda/operators.h"

#include "../../../csrc/cuda/tensors.h"

namespace bam_fused::cuda {

void on_device(const Tensor&, const std::function<void(const Target&)>& run) { run({nullptr, 2, 64}); }

}  // namespace bam_fused::cuda

STABLE_TORCH_LIBRARY(bam_fused_cuda_host, m) {
  m.def("gate(Tensor x, Tensor channel_logits, Tensor spatial_logits, str combine) -> Tensor");
  m.def("gate_backward(Tensor grad, Tensor x, Tensor channel_logits, Tensor spatial_logits, str combine)"
        " -> (Tensor, Tensor, Tensor)");
  m.def("global_avg_pool(Tensor x) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(bam_fused_cuda_host, CPU, m) {
  m.impl("gate", TORCH_BOX(&bam_fused::cuda::gate_operator));
  m.impl("gate_backward", TORCH_BOX(&bam_fused::cuda::gate_backward_operator));
  m.impl("global_avg_pool", TORCH_BOX(&bam_fused::cuda::global_avg_pool_operator));
}
