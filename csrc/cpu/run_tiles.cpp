#include "run_tiles.h"

namespace bam_fused::cpu {

PartialSums::PartialSums(
    const Target& target, Dtype dtype, const Results& results, const std::array<int64_t, 3>& sizes, double scale)
    : dtype_(dtype) {
  if (results.data == nullptr) return;
  const auto [samples, partials, length] = sizes;
  const Dtype out_dtype = results.float32 ? Dtype::float32 : dtype;
  arguments_ = {results.data, results.data, out_dtype, samples, partials, length, scale};
  const bool in_compute_type = results.float32 == (dtype != Dtype::float64);
  if (partials == 1 && scale == 1.0 && in_compute_type) return;
  memory_ = workspace(target.x, {samples, partials, length});
  arguments_.in = memory_->data_ptr();
}

void PartialSums::add_up() const {
  const SumPartialsArguments& a = arguments_;
  if (a.in != a.out) for_tiles(a, dtype_, a.samples, a.samples * a.partials * a.length);
}

}  // namespace bam_fused::cpu
