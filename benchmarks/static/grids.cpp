// The choice of tilings in csrc/cuda as a plain C function, for grids.py: no kernel and no GPU is needed for it.
#include "streaming/choose_tiling.h"
#include "streaming/shared_bytes.h"

using namespace bam_fused;
using namespace bam_fused::cuda;

extern "C" {

struct Question {
  int64_t samples, rows, columns;
  int vector, straddle, element_size, maps, flight, sum_size, row_sums, column_sums;
  int multiprocessors, in_flight;
  int resident[kWarps + 1];
};

struct Answer {
  int threads, group_rows, slab_slots, slabs, split_rows, splits, run, resident;
  int64_t blocks;
  double waves, filled, busy_lanes, partial_bytes;
  int can_fill, tail_trips;
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
        device{0, q->multiprocessors, q->in_flight} {
    std::copy(q->resident, q->resident + kWarps + 1, residency.blocks);
  }
};

int shared_bytes_of(const Question* q, int threads) {
  if (!q->row_sums && !q->column_sums) return 0;
  return shared_bytes({q->vector, q->straddle != 0}, q->sum_size, q->row_sums, q->column_sums, threads);
}

// What a tiling costs by the model, in the batches that it is chosen for.
double cost(Tiling t, const Case& c) {
  const int resident = c.residency.of(t.threads);
  double cost = 0;
  for (const int samples : kBatches) {
    t.samples = samples;
    choose_run(t, c.work, c.device, resident);
    cost += detail::call_time(t, c.work, c.device, resident) / detail::weight(t, c.work, c.device);
  }
  return cost;
}

// Whether batches of 8 and more fill 0.9 of the device, if they can, and leave partial sums of at most such a share of the
// traffic's bytes, added up in at most such a share of its time.
bool keeps_to(Tiling t, const Case& c, double share) {
  const int resident = c.residency.of(t.threads);
  for (const int samples : kBatches) {
    if (samples < 8) continue;
    t.samples = samples;
    choose_run(t, c.work, c.device, resident);
    const double traffic = detail::traffic_time(t, c.work, c.device);
    const double bytes = traffic * c.device.in_flight * c.device.multiprocessors;
    if (detail::kTrip * detail::tail_trips(t, c.work) > share * traffic) return false;
    if (t.samples * detail::partial_bytes(t, c.work) > share * bytes) return false;
    if (detail::can_fill(t, c.work, c.device, resident) && detail::filled(t, c.work, c.device, resident) < 0.9)
      return false;
  }
  return true;
}

// What the best tiling that does so costs, as a multiple of what the chosen one costs; zero where there is none.
double price_of_keeping_to(const Question* q, double share) {
  const Case c(q);
  const double least_busy = detail::least_busy(c.extent, c.work, kThreads);
  double least = 0;
  detail::for_groups(c.extent, c.work, kThreads, [&](Tiling t) {
    if (detail::busy_lanes(t, c.work) < least_busy) return;
    const int groups = detail::ceil_div(t.rows, t.group_rows);
    for (t.split_groups = 1; t.split_groups <= groups; ++t.split_groups) {
      t.splits = detail::ceil_div(groups, t.split_groups);
      if (!keeps_to(t, c, share)) continue;
      const double found = cost(t, c);
      if (least == 0 || found < least) least = found;
    }
  });
  return least / cost(choose_tiling(c.extent, c.work, c.device, c.residency, kThreads), c);
}

Answer choose(const Question* q) {
  const auto [extent, w, d, residency] = Case(q);
  Tiling t = choose_tiling(extent, w, d, residency, kThreads);
  const int resident = residency.of(t.threads);
  choose_run(t, w, d, resident);
  const int64_t blocks = t.samples * t.blocks_per_sample();
  return {
      t.threads,
      t.group_rows,
      t.slab_slots,
      t.slabs,
      t.split_rows(),
      t.splits,
      t.run,
      resident,
      blocks,
      detail::ratio(blocks, int64_t(resident) * d.multiprocessors),
      detail::filled(t, w, d, resident),
      detail::busy_lanes(t, w),
      static_cast<double>(t.samples * detail::partial_bytes(t, w)),
      detail::can_fill(t, w, d, resident),
      detail::tail_trips(t, w)};
}
}
