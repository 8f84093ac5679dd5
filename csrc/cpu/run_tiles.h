// Running a call tile by tile, and adding up what its tiles have summed.
#pragma once

#include <array>
#include <optional>

#include "dispatch.h"
#include "kernels/sum_partials.h"
#include "kernels/tiled.h"

// In a launch's source: that a source in kernels/ is the kernel of these calls.
#define BAM_TILED(Call)                                              \
  namespace bam_fused::cpu {                                         \
  template <> const ForDtypes<Tiled<Call>> Tiled<Call>::baseline;    \
  template <> const ForDtypes<Tiled<Call>> Tiled<Call>::avx2;        \
  template <> const ForDtypes<Tiled<Call>> Tiled<Call>::avx512;      \
  template <> const ForDtypes<Tiled<Call>> Tiled<Call>::avx512_bf16; \
  }

namespace bam_fused::cpu {

// The sums that a call asks for: over the columns of each row, over the rows of each column; either may be null.
struct Sums {
  Results of_rows{}, of_columns{};
};

// Where the tiles leave their partial sums of some results, [samples, partials, length], until these are added up and
// multiplied by `scale`.
class PartialSums {
 public:
  PartialSums(
      const Target& target, Dtype dtype, const Results& results, const std::array<int64_t, 3>& sizes,
      double scale = 1.0);

  // The results themselves where there is nothing to add up; null where no results are wanted.
  void* data() const { return const_cast<void*>(arguments_.in); }

  void add_up() const;

 private:
  SumPartialsArguments arguments_{};
  Dtype dtype_;  // of the feature maps
  std::optional<Tensor> memory_;
};

template <class Call> void run_tiles(const Call& call, const Target& target, const Sums& sums = {}) {
  const Extent& extent = call.extent;
  const Tiling tiling = tiling_of(extent, call.dtype);
  const std::array<int64_t, 3> row_sizes{extent.samples, tiling.column_tiles, extent.rows};
  const std::array<int64_t, 3> column_sizes{extent.samples, tiling.row_tiles, extent.columns};
  const PartialSums rows(target, call.dtype, sums.of_rows, row_sizes);
  const PartialSums columns(target, call.dtype, sums.of_columns, column_sizes);
  const Tiled<Call> tiled{call, tiling, rows.data(), columns.data()};
  for_tiles(tiled, call.dtype, tiling.tiles(), extent.samples * extent.rows * extent.columns);
  rows.add_up();
  columns.add_up();
}

}  // namespace bam_fused::cpu
