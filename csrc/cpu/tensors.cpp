// What this library says of tensors: fresh memory asks for huge pages, logits are read in the compute type, and there
// is one device.
#include "../shared/logits.h"
#include "dispatch.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace bam_fused {

// Fresh feature maps ask for huge pages: one costs more in page faults of 4 KiB than in bytes moved (a 100 MB clone: 30
// ms; with huge pages: 11 ms).
void prepare_memory([[maybe_unused]] const Tensor& fresh) {
#ifdef MADV_HUGEPAGE
  constexpr size_t huge_page = size_t{2} << 20;
  const size_t bytes = static_cast<size_t>(fresh.numel()) * fresh.element_size();
  if (bytes < 2 * huge_page) return;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(fresh.data_ptr());
  const uintptr_t first = (begin + huge_page - 1) / huge_page * huge_page;
  const uintptr_t last = (begin + bytes) / huge_page * huge_page;
  madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // advice: a refusal changes nothing but speed
#endif
}

LogitsView logits_of(const Tensor& logits, const Tensor& x) {
  const Tensor read = cpu::as_compute_dtype(logits, x);
  return {read, {read.const_data_ptr(), read.stride(0), 1, read.scalar_type() == ScalarType::Float}};
}

void on_device(const Tensor& x, const std::function<void(const Target&)>& run) { run(Target{x}); }

}  // namespace bam_fused
