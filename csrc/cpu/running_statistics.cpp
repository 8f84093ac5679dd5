// The running statistics of a training step's norms, moved in one call: each is a few numbers, which PyTorch's
// operators take longer to find than to move. As in its batch_norm no version counter notices.
#include <vector>

#include "../shared/arguments.h"
#include "../shared/stable.h"
#include "../shared/tensor.h"

namespace bam_fused::cpu {
namespace {

template <class T> void move(const Tensor& running, const double* measured, double momentum) {
  T* at = static_cast<T*>(running.data_ptr());
  const int64_t stride = running.stride(0);
  for (int64_t k = 0; k < running.size(0); ++k) {
    T& number = at[k * stride];
    number = static_cast<T>(static_cast<double>(number) + momentum * (measured[k] - static_cast<double>(number)));
  }
}

// statistics [2, measured], means and variances, float64; of norm i those of the columns from bounds[2 i] to
// bounds[2 i + 1] go to running[2 i] and running[2 i + 1], float32 or float64, with its momentum. Each of counts,
// int64, is one more.
void move_running_statistics(
    const Tensor& statistics, const std::vector<Tensor>& running, const std::vector<int64_t>& bounds,
    const std::vector<double>& momenta, const std::vector<Tensor>& counts) {
  for (size_t i = 0; i < running.size(); ++i) {
    require(
        running[i].dim() == 1 && running[i].size(0) == bounds[i / 2 * 2 + 1] - bounds[i / 2 * 2],
        "running statistics must be as many as the norm's channels");
  }
  const double* measured = static_cast<const double*>(statistics.const_data_ptr());
  for (size_t i = 0; i < running.size(); ++i) {
    const double* from = measured + static_cast<int64_t>(i % 2) * statistics.size(1) + bounds[i / 2 * 2];
    const double momentum = momenta[i / 2];
    is_float64(running[i]) ? move<double>(running[i], from, momentum) : move<float>(running[i], from, momentum);
  }
  for (const Tensor& count : counts) ++*static_cast<int64_t*>(count.data_ptr());
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_FRAGMENT(bam_fused_cpu, m) {
  m.def(
      "move_running_statistics(Tensor statistics, Tensor[] running, int[] bounds, float[] momenta, Tensor[] counts) "
      "-> ()");
}

STABLE_TORCH_LIBRARY_IMPL(bam_fused_cpu, CPU, m) {
  m.impl("move_running_statistics", TORCH_BOX(&bam_fused::cpu::move_running_statistics));
}
