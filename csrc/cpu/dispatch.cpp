#include "dispatch.h"

#include <algorithm>
#include <array>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "instruction_set.h"

namespace bam_fused {

// Fresh feature maps ask for huge pages: one costs more in page faults of 4 KiB than in bytes moved (a 100 MB clone: 30 ms;
// with huge pages: 11 ms).
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

namespace cpu {

Storage storage_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return kFloat32;
    case ScalarType::Double: return kFloat64;
    case ScalarType::BFloat16: return kBFloat16;
    default: return kFloat16;
  }
}

ScalarType accumulator_of(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

Tiling tiling_of(const Shape& shape, Rows which, size_t accumulator_bytes) {
  Tiling t{};
  t.samples = shape.samples;
  t.rows = shape.rows(which);
  t.columns = shape.columns(which);
  const int64_t most_columns = kMaxTileColumnBytes / static_cast<int64_t>(accumulator_bytes);
  const auto split = [](int64_t length, int64_t most) { return std::max<int64_t>(1, (length + most - 1) / most); };
  t.column_tiles = split(t.columns, most_columns);
  t.tile_columns = split(split(t.columns, t.column_tiles), 16) * 16;  // even tiles of whole vectors
  t.column_tiles = split(t.columns, t.tile_columns);
  constexpr int64_t enough_tiles = 64, fewest_rows = 8;  // for this many threads, if rows permit
  const int64_t rows = split(t.rows * t.samples * t.column_tiles, enough_tiles);
  t.tile_rows = std::clamp(rows, fewest_rows, kMaxTileRows);
  t.row_tiles = split(t.rows, t.tile_rows);
  return t;
}

Tensor workspace(const Tensor& x, std::initializer_list<int64_t> sizes) {
  return torch::stable::new_empty(x, torch::headeronly::IntHeaderOnlyArrayRef(sizes.begin(), sizes.size()),
                                  accumulator_of(x));
}

Tensor as_accumulators(const Tensor& logits, const Tensor& x) {
  const ScalarType wanted = accumulator_of(x);
  if (logits.scalar_type() == wanted) {
    return logits.is_contiguous() ? logits : torch::stable::contiguous(logits);
  }
  Tensor converted = torch::stable::new_empty(logits, logits.sizes(), wanted);
  torch::stable::copy_(converted, logits);
  return converted;
}

void sum_partials(const Tensor& x, const Tensor& in, const Tensor& out, int64_t samples, int64_t partials, double scale) {
  const int64_t length = samples == 0 ? 0 : out.numel() / samples;
  const SumPartialsArguments arguments{
      in.const_data_ptr(), out.data_ptr(), storage_of(out), samples, partials, length, scale};
  for_tiles(kernels().sum_partials[storage_of(x)], arguments, samples, in.numel());
}

}  // namespace cpu
}  // namespace bam_fused
