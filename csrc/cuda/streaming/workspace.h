// The workspace of a kernel that sums: where blocks leave partial sums, and the counters of who has arrived.
//
// It is one allocation for one launch. The counters in it are cleared on the stream before the kernel: a second
// operation on the device, of a few hundred bytes, wherever more than one block holds partial sums.
//
// Counters that clear themselves (atomicInc wraps to zero in the block that arrives last) would do without it, but only
// in memory that keeps its zeros from one launch to the next; what the allocator hands out was somebody else's a moment
// ago. Such memory would belong to a stream, whose launches follow each other. Under capture it does not: two graphs
// captured on one stream may be replayed on two streams at once. Each has its own results, so that is no race of
// theirs, yet both would count in the same words, and sums would be added up before they are complete. Inside a graph
// the counters have to be cleared, then, and there a memset is one node, without the host. What is left to gain is a
// call on the host outside of graphs, for a table of buffers by stream that grows with the shapes seen, and is wrong
// once more where a destroyed stream's handle is given to a new one while the old one's kernels still run.
#pragma once

#include "launch.h"
#include "sums.cuh"

namespace bam_fused::cuda {

inline Workspace reserve(const Tiling& t, const Work& w, const Target& target) {
  const bool rows = partial_row_sums(t, w), columns = partial_column_sums(t, w);
  if (!rows && !columns) return {};
  const bool own = t.private_columns(w.access.straddle);
  const size_t samples = t.samples, slabs = t.slabs, splits = t.splits;
  const size_t row_sums = rows ? (samples * slabs * t.rows + 3) / 4 * 4 : 0;
  const size_t column_sums =
      columns ? samples * slabs * splits * t.partial_columns(w.access.vector, w.access.straddle) : 0;
  const size_t row_counters = rows ? samples * splits : 0;
  const size_t column_counters = columns && (own ? 1 : slabs) * splits > 1 ? samples * (own ? slabs : 1) : 0;
  const size_t counter_bytes = (row_counters + column_counters) * sizeof(unsigned);
  const size_t aligned_counter_bytes = (counter_bytes + 15) / 16 * 16;
  char* memory = static_cast<char*>(target.allocate(aligned_counter_bytes + (row_sums + column_sums) * w.sum_size));
  if (counter_bytes > 0) {
    check(cudaMemsetAsync(memory, 0, counter_bytes, target.stream), "clearing arrival counters");
  }
  Workspace work;
  work.row_counters = reinterpret_cast<unsigned*>(memory);
  work.column_counters = work.row_counters + row_counters;
  work.rows = memory + aligned_counter_bytes;
  work.columns = memory + aligned_counter_bytes + row_sums * w.sum_size;
  return work;
}

}  // namespace bam_fused::cuda
