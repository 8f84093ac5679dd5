#include "dispatch.h"

#include <algorithm>
#include <vector>

#include "kernels/sum_partials.h"

namespace bam_fused::cpu {

Tiling tiling_of(const Extent& extent, Dtype dtype) {
  // A tile's rows are a run of additions, whose rounding grows with it: of 32 it errs up to 1.2 times as much as
  // eager's sums. A small sample takes shorter ones: equal addends round alike, and their errors add up.
  constexpr int64_t fewest_rows = 8, most_rows = 16;
  return tiling_of(extent, dtype, extent.rows * extent.columns > kFewElements ? most_rows : fewest_rows);
}

Tiling tiling_of(const Extent& extent, Dtype dtype, int64_t most_rows) {
  Tiling t{};
  t.samples = extent.samples;
  t.rows = extent.rows;
  t.columns = extent.columns;
  t.row_tiles = split(t.rows, most_rows);
  t.tile_rows = split(t.rows, t.row_tiles);
  // As many tiles as there may be threads worth their while, even over one sample, if columns permit: but a tile of
  // less than whole rows reads memory in short runs.
  constexpr int64_t most_threads = 16, fewest_columns = 256;
  const int64_t enough_tiles = std::clamp<int64_t>(t.rows * t.columns / kWorthAThread, 1, most_threads);
  const int64_t most_columns = kMaxTileColumnBytes / (dtype == Dtype::float64 ? 8 : 4);
  const int64_t wanted = std::min(split(enough_tiles, t.row_tiles), t.columns / fewest_columns);
  t.column_tiles = std::max(wanted, split(t.columns, most_columns));
  t.tile_columns = split(split(t.columns, t.column_tiles), 16) * 16;  // even tiles of whole vectors
  t.column_tiles = split(t.columns, t.tile_columns);
  return t;
}

Tensor workspace(const Tensor& x, std::initializer_list<int64_t> sizes) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t d = sizes.size() - 1; d > 0; --d) strides[d - 1] = strides[d] * sizes.begin()[d];
  AtenTensorHandle fresh;
  // Not by `torch::stable::new_empty`, which looks the operator up by its name: a microsecond for each.
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<int64_t>(sizes.size()), sizes.begin(), strides.data(),
      is_float64(x) ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32(), aoti_torch_device_type_cpu(), 0,
      &fresh));
  return Tensor(fresh);
}

Tensor as_compute_dtype(const Tensor& logits, const Tensor& x) {
  const ScalarType wanted = compute_dtype(x);
  if (logits.scalar_type() == wanted) { return logits.is_contiguous() ? logits : torch::stable::contiguous(logits); }
  Tensor converted = torch::stable::new_empty(logits, logits.sizes(), wanted);
  torch::stable::copy_(converted, logits);
  return converted;
}

void sum_partials(
    const Tensor& x, const Tensor& in, const Tensor& out, int64_t samples, int64_t partials, double scale,
    int64_t interleaved) {
  const int64_t length = samples == 0 ? 0 : out.numel() / samples;
  const SumPartialsArguments arguments{
      in.const_data_ptr(), out.data_ptr(), dtype_of(out), samples, partials, length, scale, interleaved};
  for_tiles(arguments, dtype_of(x), samples, in.numel());
}

}  // namespace bam_fused::cpu
