#include "run_tiles.h"

namespace bam_fused::cpu {

PartialSums::PartialSums(
    const Tensor& x, const Results& results, int64_t samples, int64_t partials, int64_t length, double scale)
    : dtype_(dtype_of(x)) {
  if (results.data == nullptr) return;
  const Dtype out_dtype = results.float32 ? Dtype::float32 : dtype_;
  arguments_ = {results.data, results.data, out_dtype, samples, partials, length, scale};
  const bool in_compute_type = results.float32 == (dtype_ != Dtype::float64);
  if (partials == 1 && scale == 1.0 && in_compute_type) return;
  memory_ = workspace(x, {samples, partials, length});
  arguments_.in = memory_->data_ptr();
}

void PartialSums::add_up() const {
  const SumPartialsArguments& a = arguments_;
  if (a.in != a.out) for_tiles(a, dtype_, a.samples, a.samples * a.partials * a.length);
}

}  // namespace bam_fused::cpu
