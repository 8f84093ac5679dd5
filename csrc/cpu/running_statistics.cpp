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

// statistics [2, measured], means and variances, float64; of norm i those from columns[i] on go to running[2 i] and
// running[2 i + 1], float32 or float64, with its momentum. Each of counts, int64, is one more.
void move_running_statistics(
    const Tensor& statistics, const std::vector<Tensor>& running, const std::vector<int64_t>& columns,
    const std::vector<double>& momenta, const std::vector<Tensor>& counts) {
  const double* measured = static_cast<const double*>(statistics.const_data_ptr());
  for (size_t i = 0; i < running.size(); ++i) {
    const Tensor& its = running[i];
    const int64_t column = columns[i / 2];
    require(its.dim() == 1 && column + its.size(0) <= statistics.size(1), "running must be as long as was measured");
    const double* from = measured + static_cast<int64_t>(i % 2) * statistics.size(1) + column;
    is_float64(its) ? move<double>(its, from, momenta[i / 2]) : move<float>(its, from, momenta[i / 2]);
  }
  for (const Tensor& count : counts) ++*static_cast<int64_t*>(count.data_ptr());
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_FRAGMENT(bam_fused_cpu, m) {
  m.def(
      "move_running_statistics(Tensor statistics, Tensor[] running, int[] columns, float[] momenta, Tensor[] counts) "
      "-> ()");
}

STABLE_TORCH_LIBRARY_IMPL(bam_fused_cpu, CPU, m) {
  m.impl("move_running_statistics", TORCH_BOX(&bam_fused::cpu::move_running_statistics));
}
