// The workspace of a kernel that sums: where blocks leave partial sums, and the counters of who has arrived.
//
// The counters are cleared on the stream before each launch, inside memory that this launch alone owns: concurrent streams
// cannot meet in them, and a captured graph clears them at every replay. A sum that one block finishes needs neither.
#pragma once

#include "launch.h"
#include "sums.cuh"

namespace bam_fused::cuda {

inline Workspace reserve(
    const Tiling& t, int vector, size_t sum_size, bool rows, bool columns, const Allocate& allocate,
    const Target& target) {
  rows = rows && t.slabs > 1;
  columns = columns && !(t.private_columns() && t.splits == 1);
  if (!rows && !columns) return {};
  const size_t samples = t.samples, slabs = t.slabs, splits = t.splits;
  const size_t row_sums = rows ? samples * slabs * t.rows : 0;
  const size_t column_sums = columns ? samples * slabs * splits * t.met_columns(t.slab_slots, vector) : 0;
  const size_t row_counters = rows ? samples * splits : 0;
  const size_t column_counters = columns ? samples * (t.private_columns() ? slabs : 1) : 0;
  const size_t counter_bytes = (row_counters + column_counters) * sizeof(unsigned);
  const size_t aligned_counter_bytes = (counter_bytes + 15) / 16 * 16;
  char* memory = static_cast<char*>(allocate(aligned_counter_bytes + (row_sums + column_sums) * sum_size));
  check(cudaMemsetAsync(memory, 0, counter_bytes, target.stream), "clearing arrival counters");
  Workspace work;
  work.row_counters = reinterpret_cast<unsigned*>(memory);
  work.column_counters = work.row_counters + row_counters;
  work.rows = memory + aligned_counter_bytes;
  work.columns = memory + aligned_counter_bytes + row_sums * sum_size;
  return work;
}

/// The fewest rows of a split for which writing and reading a column's partial sum stays under 2.5 % of the `passes` over
/// the feature map that the kernel makes anyway.
inline int64_t least_split_rows(size_t sum_size, int element_size, int passes) {
  return static_cast<int64_t>(2 * sum_size * 40 / (static_cast<size_t>(element_size) * passes));
}

}  // namespace bam_fused::cuda
