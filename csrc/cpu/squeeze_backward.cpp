// The operators squeeze_input_grad and squeeze_weight_grad on the CPU.
#include <algorithm>
#include <optional>

#include "../shared/arguments.h"
#include "features.h"
#include "kernels/squeeze_input_grad.h"
#include "kernels/squeeze_weight_grad.h"
#include "layers.h"

namespace bam_fused::cpu {
namespace {

// The gradient of the reduced map in the compute type, without a copy where it need not be.
struct ReducedGrad {
  Tensor numbers;
  bool positions_as_rows;  // [samples, positions, reduced], else [samples, reduced, positions]
};

ReducedGrad reduced_as_rows(const Tensor& reduced_grad, const Tensor& x, Rows rows) {
  const Tensor by_positions = torch::stable::transpose(torch::stable::transpose(reduced_grad, 1, 2), 2, 3);
  const bool positions = rows == Rows::positions || by_positions.is_contiguous();
  return {as_compute_dtype(positions ? by_positions : reduced_grad, x), positions};
}

void check_squeeze_grad(const Tensor& x, const Tensor& reduced_grad) {
  check_feature_map(x);
  require(
      reduced_grad.dim() == 4 && reduced_grad.size(0) == x.size(0) && reduced_grad.size(2) == x.size(2) &&
          reduced_grad.size(3) == x.size(3),
      "reduced_grad must be (N, R, H, W) of x");
  require(reduced_grad.size(1) <= kMaxReduced, "reduced_grad must have at most 512 channels");
}

// Columns so few that the reduced gradient's tile stays in the cache, rows so many that it is worth packing.
Tiling input_grad_tiling(const Shape& shape, Rows rows, int64_t reduced, int64_t bytes) {
  constexpr int64_t packed_bytes = 49152, enough_tiles = 64, rows_at_once = 30, fewest_columns = 32;
  Tiling t{};
  t.samples = shape.samples;
  t.rows = shape.rows(rows);
  t.columns = shape.columns(rows);
  const int64_t most = std::clamp(packed_bytes / bytes / reduced, fewest_columns, kMaxInputGradColumns);
  t.tile_columns = split(split(t.columns, split(t.columns, most)), 16) * 16;
  t.column_tiles = split(t.columns, t.tile_columns);
  const int64_t wanted = split(t.rows * t.samples * t.column_tiles, enough_tiles);
  t.tile_rows = split(wanted, rows_at_once) * rows_at_once;
  t.row_tiles = split(t.rows, t.tile_rows);
  return t;
}

Tensor squeeze_input_grad(
    const Tensor& x, const Tensor& weight, const Tensor& pooled_grad, const Tensor& reduced_grad,
    const std::optional<Tensor>& grad, const std::optional<Tensor>& channel_logits,
    const std::optional<Tensor>& spatial_logits, const std::string& combine) {
  check_squeeze_grad(x, reduced_grad);
  check_squeeze(x, weight, std::nullopt);
  require(weight.size(0) == reduced_grad.size(1), "weight must have as many rows as reduced_grad channels");
  require(
      pooled_grad.dim() == 2 && pooled_grad.size(0) == x.size(0) && pooled_grad.size(1) == x.size(1),
      "pooled_grad must be (N, C) of x");
  const Combine how = parse_combine(combine);
  if (grad) {
    require(channel_logits && spatial_logits, "channel_logits and spatial_logits must be given where grad is");
    check_gate(x, *channel_logits, *spatial_logits);
    check_grad(*grad, x);
  }
  Tensor dx = fresh_like(x);
  if (x.numel() == 0) return dx;
  const FeatureMap map = grad ? FeatureMap({&dx, &*grad}) : FeatureMap({&dx});
  const View written = map.writable(dx);
  const int64_t reduced = reduced_grad.size(1);
  const Tensor weights =
      map.rows_are_channels() ? packed_weight(x, weight, pairs_of_outputs(x)) : torch::stable::contiguous(weight);
  const ReducedGrad gradients = reduced_as_rows(reduced_grad, x, map.rows);
  SqueezeInputGradArguments a{};
  a.tiling = input_grad_tiling(map.shape, map.rows, reduced, compute_bytes(x));
  a.channels = map.shape.channels;
  a.positions = map.shape.positions;
  a.reduced = reduced;
  a.rows_are_channels = map.rows_are_channels();
  a.grad_has_positions_as_rows = gradients.positions_as_rows;
  a.dx = written.map;
  (a.rows_are_channels ? a.turned_weight : a.weight) = weights.const_data_ptr();
  a.left_row = a.rows_are_channels ? padded(x, reduced) / (multiplies_pairs(x) ? 2 : 1) : reduced;
  a.reduced_grad = gradients.numbers.const_data_ptr();
  const Tensor shares =
      workspace(x, {map.shape.samples, map.shape.channels});  // of the pooled gradient, for each position
  sum_partials(
      x, as_compute_dtype(pooled_grad, x), shares, map.shape.samples, 1,
      1.0 / static_cast<double>(map.shape.positions));
  a.pooled_grad = shares.const_data_ptr();
  Tensor channel, spatial;
  View read_grad{};
  if (grad) {
    channel = as_compute_dtype(*channel_logits, x);
    spatial = as_compute_dtype(*spatial_logits, x);
    read_grad = map.readable_gradient(*grad);
    a.combine = how;
    a.grad = read_grad.map;
    a.row_logits = (a.rows_are_channels ? channel : spatial).const_data_ptr();
    a.column_logits = (a.rows_are_channels ? spatial : channel).const_data_ptr();
  }
  for_tiles(a, dtype_of(x), a.tiling.tiles(), map.shape.elements());
  map.finish(written, dx);
  return dx;
}

Tensor squeeze_weight_grad(const Tensor& x, const Tensor& reduced_grad) {
  check_squeeze_grad(x, reduced_grad);
  const int64_t reduced = reduced_grad.size(1), channels = x.size(1);
  Tensor out = workspace(x, {reduced, channels});
  if (x.numel() == 0) return torch::stable::new_zeros(out, {reduced, channels});
  const FeatureMap map({&x});
  const View read = map.readable(x);
  const ReducedGrad gradients = reduced_as_rows(reduced_grad, x, map.rows);
  constexpr int64_t enough_tasks = 16, most_channels = 288, packed_numbers = 16384;
  SqueezeWeightGradArguments a{};
  a.samples = map.shape.samples;
  a.channels = channels;
  a.positions = map.shape.positions;
  a.reduced = reduced;
  a.tile_positions = std::clamp<int64_t>(packed_numbers / reduced / 2 * 2, 32, kMaxTilePositions);  // whole pairs
  const int64_t channel_tiles = split(channels, most_channels);
  a.tile_channels = split(split(channels, channel_tiles), 32) * 32;  // alike, that threads have as much to do
  a.splits = std::min(a.samples * split(a.positions, a.tile_positions), split(enough_tasks, channel_tiles));
  a.rows_are_channels = map.rows_are_channels();
  a.grad_has_positions_as_rows = gradients.positions_as_rows;
  a.x = read.map;
  a.reduced_grad = gradients.numbers.const_data_ptr();
  const int64_t rows = a.rows_are_channels ? channels : reduced, columns = a.rows_are_channels ? reduced : channels;
  const Tensor partials = workspace(x, {rows, a.splits, columns});
  a.partials = partials.data_ptr();
  for_tiles(a, dtype_of(x), channel_tiles * a.splits, map.shape.elements());
  sum_partials(x, partials, out, rows, a.splits, 1.0, a.rows_are_channels ? rows : 1);
  return out;
}

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY_IMPL(bam_fused, CPU, m) {
  m.impl("squeeze_input_grad.compiled", TORCH_BOX(&bam_fused::cpu::squeeze_input_grad));
  m.impl("squeeze_weight_grad.compiled", TORCH_BOX(&bam_fused::cpu::squeeze_weight_grad));
}
