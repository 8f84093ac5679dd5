// The choice of a tiling, by a model of how a device runs a grid: plain arithmetic on sizes, so that it can be asked for any
// device (benchmarks/static/grids.py does, and the committed tables are its answers).
//
// A device fills whole blocks into its multiprocessors, wave after wave. A block takes as long as its loads wait, a few
// groups at a time, and as the blocks on its multiprocessor take to move their bytes. Partial sums cost their bytes, and the
// block that adds them up a few round trips. The unit of time is a round trip to memory under load.
//
// Which sums are partial, and in which order they are added up, depends on one sample's size and on the device: a tiling is
// chosen for several batch sizes at once. Only how many splits a block walks is left to the batch at hand.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tiling.h"

namespace bam_fused::cuda {

/// What a kernel does with the maps.
struct Work {
  Access access;
  int access_bytes;
  int maps;    // read or written
  int flight;  // groups whose loads are in flight at a time
  int sum_size;
  bool row_sums, column_sums;
};

/// How many blocks of 1, 2, ... kWarps warps reside on a multiprocessor; zeroth, nothing.
struct Residency {
  int blocks[kWarps + 1];

  int of(int threads) const { return std::max(1, blocks[threads / 32]); }
};

/// Whether blocks leave partial sums of columns, or of rows, to a last one.
inline bool partial_column_sums(const Tiling& t, const Work& w) {
  return w.column_sums && !(t.splits == 1 && t.private_columns(w.access.straddle));
}

inline bool partial_row_sums(const Tiling& t, const Work& w) { return w.row_sums && t.slabs > 1; }

/// How many threads of the last block add up one column's partial sums.
__host__ __device__ inline int partial_lanes(int chunks, int parts, int threads) {
  int lanes = 1;
  while (lanes < 32 && 2 * lanes * chunks <= threads && 2 * lanes <= parts) lanes *= 2;
  return lanes;
}

constexpr int kPartialLoads = 8;             // in flight where partial sums are added up
constexpr int kBatches[] = {8, 32, 256, 1};  // for which a tiling is chosen

namespace detail {

inline double ratio(int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

inline int ceil_div(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }

/// One block, `resident` of which share a multiprocessor.
inline double block_time(const Tiling& t, const Work& w, const Device& d, int64_t resident) {
  constexpr double prologue = 1, flush = 0.15;
  const int64_t groups = std::min<int64_t>(int64_t(t.run) * t.split_groups, ceil_div(t.rows, t.group_rows));
  const int parts = w.column_sums ? t.run : 1;
  const double waits = int64_t(parts) * ceil_div(ceil_div(groups, parts), w.flight);
  const double traffic = ratio(resident * groups * t.threads * w.access_bytes * w.maps, d.in_flight);
  const double together = std::sqrt(waits * waits + traffic * traffic);  // one hides the other in part
  return prologue + together + (w.column_sums && t.splits > 1 ? flush * t.run : 0);
}

/// The round trips to the second-level cache that a last block waits for, one after the other.
inline int tail_trips(const Tiling& t, const Work& w) {
  int trips = 0;
  if (partial_column_sums(t, w)) {
    const int chunks = t.partial_columns(w.access.vector, w.access.straddle) / std::min(w.access.vector, 4);
    const int parts = t.splits * (t.private_columns(w.access.straddle) ? 1 : t.slabs);
    const int lanes = partial_lanes(chunks, parts, t.threads);
    trips += ceil_div(chunks, t.threads) * ceil_div(ceil_div(parts, lanes), kPartialLoads);
  }
  if (partial_row_sums(t, w)) {
    const int64_t rows = std::min<int64_t>(int64_t(t.run) * t.split_rows(), t.rows);
    trips += ceil_div(rows, t.threads) * ceil_div(t.slabs, kPartialLoads);
  }
  return trips;
}

constexpr double kTrip = 0.2;  // on an idle device

/// From the first arrival of a last block to its last result.
inline double tail_time(const Tiling& t, const Work& w) {
  constexpr double arrival = 0.7;
  return partial_column_sums(t, w) || partial_row_sums(t, w) ? arrival + kTrip * tail_trips(t, w) : 0;
}

/// Bytes of partial sums of a sample, written once and read once.
inline int64_t partial_bytes(const Tiling& t, const Work& w) {
  const int64_t slabs = t.private_columns(w.access.straddle) ? 1 : t.slabs;
  const int64_t columns = partial_column_sums(t, w) ? slabs * t.splits * t.columns : 0;
  const int64_t rows = partial_row_sums(t, w) ? t.slabs * t.rows : 0;
  return 2 * w.sum_size * (columns + rows);
}

/// The walk of all blocks, without what partial sums cost.
inline double walk_time(const Tiling& t, const Work& w, const Device& d, int resident) {
  const int64_t blocks = t.samples * t.blocks_per_sample(), wave = int64_t(resident) * d.multiprocessors;
  const int64_t rest = blocks % wave;
  const double time = static_cast<double>(blocks / wave) * block_time(t, w, d, resident);
  return rest > 0 ? time + block_time(t, w, d, ceil_div(rest, d.multiprocessors)) : time;
}

/// The share of that time which whole waves of the same blocks would take: what the last one leaves idle is missing.
inline double filled(const Tiling& t, const Work& w, const Device& d, int resident) {
  const double waves = ratio(t.samples * t.blocks_per_sample(), int64_t(resident) * d.multiprocessors);
  return waves * block_time(t, w, d, resident) / walk_time(t, w, d, resident);
}

/// Whether there are a few groups for each thread that the device can hold.
inline bool can_fill(const Tiling& t, const Work& w, const Device& d, int resident) {
  const int64_t threads = int64_t(resident) * d.multiprocessors * t.threads;
  constexpr int groups = 4;
  return t.samples * t.rows * t.columns / w.access.vector >= threads * groups;
}

inline double call_time(const Tiling& t, const Work& w, const Device& d, int resident) {
  constexpr int weight = 2;  // they are also memory that is held meanwhile
  const double partials = ratio(weight * t.samples * partial_bytes(t, w), int64_t(d.in_flight) * d.multiprocessors);
  return walk_time(t, w, d, resident) + partials + tail_time(t, w);
}

/// The maps' bytes at the memory's bandwidth.
inline double traffic_time(const Tiling& t, const Work& w, const Device& d) {
  const int64_t elements = t.samples * t.rows * t.columns;
  return ratio(elements / w.access.vector * w.access_bytes * w.maps, int64_t(d.in_flight) * d.multiprocessors);
}

/// Whether the last block's reduction takes no more than a tenth of that, or the two round trips that it takes at least.
inline bool short_tail(const Tiling& t, const Work& w, const Device& d) {
  const int trips = tail_trips(t, w);
  return trips <= 2 || kTrip * trips <= 0.1 * traffic_time(t, w, d);
}

/// The time by which tilings are compared: a device that could be filled and is not, and a long tail in a batch of some size,
/// count as worse than their time says. Not by more than filling it may cost: cutting small samples for that leaves partial
/// sums of a quarter of the traffic.
inline double rating(const Tiling& t, const Work& w, const Device& d, int resident) {
  const bool filled_if_it_can = !can_fill(t, w, d, resident) || filled(t, w, d, resident) >= 0.9;
  const bool good = filled_if_it_can && (t.samples < 8 || short_tail(t, w, d));
  constexpr double worse = 1.7;
  return call_time(t, w, d, resident) * (good ? 1 : worse);
}

/// What the times of batches of several sizes are divided by, so that none outweighs the others.
inline double weight(const Tiling& t, const Work& w, const Device& d) {
  constexpr double fixed = 3;  // what a launch takes anyway
  return fixed + traffic_time(t, w, d);
}

/// The slots of a group, in whole warps, and the lanes that add up a row.
inline void set_threads(Tiling& t, const Work& w) {
  t.threads = ceil_div(int64_t(t.slab_slots) * (w.access.straddle ? 1 : t.group_rows), 32) * 32;
  t.inverse_group_rows = ceil_div(1 << 20, t.group_rows);
  t.lanes_log2 = 0;
  while (t.lanes_log2 < 5 && (kBatch * int64_t(t.group_rows) << (t.lanes_log2 + 1)) <= t.threads) ++t.lanes_log2;
}

/// f(tiling) for groups that fit into a block of at most `threads` threads; splits and runs are left open.
template <typename F>
void for_groups(const Extent& extent, const Work& w, int threads, F&& f) {
  Tiling t{};
  t.samples = extent.samples, t.rows = extent.rows, t.columns = extent.columns;
  const auto with = [&](int64_t rows, int64_t slots, int slabs) {
    t.group_rows = static_cast<int>(rows), t.slab_slots = static_cast<int>(slots), t.slabs = slabs;
    set_threads(t, w);
    f(t);
  };
  if (w.access.straddle) {
    const int64_t unit = w.access.vector / std::gcd<int64_t>(extent.columns, w.access.vector);
    const int64_t slots = unit * extent.columns / w.access.vector;
    for (int64_t units = 1; units * slots <= threads && (units - 1) * unit < extent.rows; ++units) {
      with(units * unit, units * slots, 1);
    }
    // Cut into slabs, whole warps of each: a few rows more can leave fewer lanes idle.
    constexpr int most_slabs = 4;
    for (int64_t units = 1; slots > threads && (units - 1) * unit < extent.rows; ++units) {
      const int slabs = ceil_div(units * slots, threads);
      if (units > 1 && slabs > most_slabs) break;
      with(units * unit, ceil_div(units * slots, slabs), slabs);
    }
    return;
  }
  // Slabs are whole lines of 128 bytes, at least two; a row that fits may also be left whole.
  const int64_t slots = extent.columns / w.access.vector, line = 128 / w.access_bytes;
  const auto with_rows = [&](int64_t wide, int slabs) {
    int64_t before = 0;
    for (int warps = std::min(2, threads / 32); warps <= threads / 32; ++warps) {
      const int64_t rows = std::min<int64_t>(warps * 32 / wide, extent.rows);
      if (rows > before) with(rows, wide, slabs);
      before = rows;
    }
  };
  if (slots <= threads) with_rows(slots, 1);
  const int64_t least = std::min<int64_t>(threads, 2 * line);
  for (int64_t wide = least; wide <= threads && wide < slots; wide += line) with_rows(wide, ceil_div(slots, wide));
}

/// The share of a block's lanes that have elements.
inline double busy_lanes(const Tiling& t, const Work& w) {
  const int64_t slots = t.group_rows * t.columns / w.access.vector;
  return ratio(slots, int64_t(t.slabs) * t.threads);
}

/// The least share that a tiling may have: idle lanes take issue slots.
inline double least_busy(const Extent& extent, const Work& w, int threads) {
  double busiest = 0;
  for_groups(extent, w, threads, [&](const Tiling& t) { busiest = std::max(busiest, busy_lanes(t, w)); });
  return 0.9 * busiest;
}

}  // namespace detail

/// Sets the number of consecutive splits in a block that suits a batch best.
inline void choose_run(Tiling& t, const Work& w, const Device& d, int resident) {
  const int64_t wave = int64_t(resident) * d.multiprocessors;
  const int64_t most = std::max<int64_t>(1, (1 << 30) / t.split_rows());
  int best = 0;
  double least = 0;
  for (int waves = 1; waves <= 8; ++waves) {
    const int64_t runs = std::clamp<int64_t>(waves * wave / (t.samples * t.slabs), 1, t.splits);
    t.set_run(static_cast<int>(std::min<int64_t>(detail::ceil_div(t.splits, runs), most)));
    const double time = detail::rating(t, w, d, resident);
    if (best == 0 || time < least) least = time, best = t.run;
    if (runs == t.splits) break;
  }
  t.set_run(best);
}

/// The tiling of samples of this size, whatever their number; `run` is left open. Blocks have at most `threads` threads.
inline Tiling choose_tiling(
    const Extent& extent, const Work& w, const Device& d, const Residency& residency, int threads) {
  const double least_busy = detail::least_busy(extent, w, threads);
  Tiling best{};
  double least = 0;
  detail::for_groups(extent, w, threads, [&](Tiling t) {
    if (detail::busy_lanes(t, w) < least_busy) return;
    const int resident = residency.of(t.threads);
    const int groups = detail::ceil_div(t.rows, t.group_rows);
    const int longest = std::min(groups, std::max(1, (1 << 30) / t.group_rows));
    for (int each = 1; each <= longest; each += 1 + each / 8) {
      t.split_groups = each;
      t.splits = detail::ceil_div(groups, each);
      double time = 0;
      for (const int samples : kBatches) {
        if (least > 0 && time >= least) break;
        t.samples = samples;
        choose_run(t, w, d, resident);
        time += detail::rating(t, w, d, resident) / detail::weight(t, w, d);
      }
      if (least == 0 || time < least) least = time, best = t;
      if (!w.column_sums) break;  // splits then cost nothing
    }
  });
  best.samples = extent.samples;
  return best;
}

}  // namespace bam_fused::cuda
