// The operators of csrc/cuda over the kernels executed on the CPU, as bam_fused_cuda_host::*: this defines them, and the
// sources of the operators are compiled to register themselves here, for CPU tensors.
#include "tensors.h"

namespace bam_fused::cuda {

void on_device(const Tensor&, const std::function<void(const Target&)>& run) { run({nullptr, {0, 2, 16384}, 64}); }

}  // namespace bam_fused::cuda

STABLE_TORCH_LIBRARY(bam_fused_cuda_host, m) {
  m.def("gate.compiled(Tensor x, Tensor channel_logits, Tensor spatial_logits, str combine) -> Tensor");
  m.def(
      "gate_backward.compiled(Tensor grad, Tensor x, Tensor channel_logits, Tensor spatial_logits, str combine)"
      " -> (Tensor, Tensor, Tensor)");
  m.def("global_avg_pool.compiled(Tensor x) -> Tensor");
}
