// The choice of tilings in csrc/cuda as a plain C function, for grids.py: no kernel and no GPU is needed for it.
#include "streaming/choose_tiling.h"
#include "streaming/shared_bytes.h"

using namespace bam_fused;
using namespace bam_fused::cuda;

extern "C" {

struct Question {
  int64_t samples, rows, columns;
  int vector, straddle, element_size, maps, flight, sum_size, row_sums, column_sums;
  int multiprocessors, bandwidth;
  int resident[kWarps + 1];
};

struct Answer {
  int threads, group_rows, slab_slots, slabs, split_rows, splits, resident;
  int64_t blocks;
  double waves, busy_lanes, partial_bytes, time, least_time;
};

struct Case {
  Extent extent;
  Work work;
  Device device;
  Residency residency{};

  explicit Case(const Question* q)
      : extent{q->samples, q->rows, q->columns},
        work{
            {q->vector, q->straddle != 0},
            q->element_size * q->vector,
            q->maps,
            q->flight,
            q->sum_size,
            q->row_sums != 0,
            q->column_sums != 0},
        device{0, q->multiprocessors, q->bandwidth} {
    std::copy(q->resident, q->resident + kWarps + 1, residency.blocks);
  }
};

int shared_bytes_of(const Question* q, int threads) {
  if (!q->row_sums && !q->column_sums) return 0;
  return shared_bytes({q->vector, q->straddle != 0}, q->sum_size, q->row_sums, q->column_sums, threads);
}

Answer choose(const Question* q) {
  const auto [extent, w, d, residency] = Case(q);
  const Tiling t = choose_tiling(extent, w, d, residency, kThreads);
  const int resident = residency.of(t.threads);
  const int64_t blocks = t.samples * t.blocks_per_sample();
  return {
      t.threads,
      t.group_rows,
      t.slab_slots,
      t.slabs,
      t.split_rows(),
      t.splits,
      resident,
      blocks,
      detail::ratio(blocks, int64_t(resident) * d.multiprocessors),
      detail::busy_lanes(t, w),
      static_cast<double>(t.samples * detail::partial_bytes(t, w)),
      detail::call_time(t, w, d, resident),
      detail::least_time(t, w, d)};
}
}
