// The choice of a tiling, by a model of how a device runs a grid: plain arithmetic on sizes, so that it can be asked
// for any device (benchmarks/static/grids.py does, and the committed tables are its answers).
//
// A device fills whole blocks into its multiprocessors, wave after wave. A wave takes as long as a block's loads wait,
// some groups at a time, and all of them as long as their bytes take. Partial sums cost their bytes, and the block that
// adds them up a few round trips.
//
// The model's constants are microseconds, fitted to 1,700 times of the gate, its backward and the pool by various
// tilings on an H100 SXM (2026-11-27): it is off by 11 % of a time (root mean square), and what it chooses for one
// batch size takes 2 % longer than the fastest. What the times taught: a block with column sums ends at the cost of
// five loads, so it had better have something to do; waves of small blocks are no worse than one of blocks that stay.
//
// Which sums are partial, and in which order they are added up, depends on one sample's size and on the device: a
// tiling of a kernel that sums is chosen for several batch sizes at once.
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

constexpr int kPartialLoads = 8;  // in flight where partial sums are added up

/// A batch size that a tiling is chosen for, and how much it counts.
struct Batch {
  int64_t samples;
  double weight;
};

constexpr Batch kBatches[] = {{32, 1}, {8, 1}, {256, 1}, {1, 0.25}};

namespace detail {

constexpr double kLaunch = 3.8;
constexpr double kPrologue = 0.75;        // of a block
constexpr double kWait = 0.37;            // for a flight of loads
constexpr double kExchange = 1.05;        // of the row sums of a batch of groups
constexpr double kColumnSums = 1.8;       // at the end of a block
constexpr double kArrival = 1.85;         // from the first one of a last block on
constexpr double kTrip = 0.25;            // to partial sums
constexpr double kPartialWeight = 2.6;    // of their bytes: they are also memory that is held meanwhile
constexpr double kBandwidthShare = 0.91;  // that streaming reaches

inline double ratio(int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

inline int ceil_div(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }

/// Of bytes, where `multiprocessors` share in moving them.
inline double traffic_time(int64_t bytes, int multiprocessors, const Device& d) {
  return static_cast<double>(bytes) / (kBandwidthShare * d.bandwidth * multiprocessors);
}

/// What a block waits for, one thing after the other.
inline double block_time(const Tiling& t, const Work& w) {
  const int groups = std::min(t.split_groups, ceil_div(t.rows, t.group_rows));
  const double row_sums = w.row_sums ? kExchange * ceil_div(groups, kBatch) : 0;
  return kPrologue + kWait * ceil_div(groups, w.flight) + row_sums + (w.column_sums ? kColumnSums : 0);
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
    const int64_t rows = std::min<int64_t>(t.split_rows(), t.rows);
    trips += ceil_div(rows, t.threads) * ceil_div(t.slabs, kPartialLoads);
  }
  return trips;
}

/// From the first arrival of a last block to its last result.
inline double tail_time(const Tiling& t, const Work& w) {
  return partial_column_sums(t, w) || partial_row_sums(t, w) ? kArrival + kTrip * tail_trips(t, w) : 0;
}

/// Bytes of partial sums of a sample, written once and read once.
inline int64_t partial_bytes(const Tiling& t, const Work& w) {
  const int64_t slabs = t.private_columns(w.access.straddle) ? 1 : t.slabs;
  const int64_t columns = partial_column_sums(t, w) ? slabs * t.splits * t.columns : 0;
  const int64_t rows = partial_row_sums(t, w) ? t.slabs * t.rows : 0;
  return 2 * w.sum_size * (columns + rows);
}

/// The walk of all blocks, without what partial sums cost: the waits of a wave after the other, and the bytes that move
/// meanwhile. One hides the other in part.
inline double walk_time(const Tiling& t, const Work& w, const Device& d, int resident) {
  const int64_t blocks = t.samples * t.blocks_per_sample(), wave = int64_t(resident) * d.multiprocessors;
  const int64_t groups = std::min(t.split_groups, ceil_div(t.rows, t.group_rows));
  const int64_t block_bytes = groups * t.threads * w.access_bytes * w.maps;
  const double traffic = blocks > wave ? traffic_time(blocks * block_bytes, d.multiprocessors, d)
                                       : traffic_time(ceil_div(blocks, d.multiprocessors) * block_bytes, 1, d);
  const double waits = ceil_div(blocks, wave) * block_time(t, w);
  return std::sqrt(waits * waits + traffic * traffic);
}

inline double call_time(const Tiling& t, const Work& w, const Device& d, int resident) {
  const double partials = traffic_time(t.samples * partial_bytes(t, w), d.multiprocessors, d);
  return kLaunch + walk_time(t, w, d, resident) + kPartialWeight * partials + tail_time(t, w);
}

/// What no tiling can fall below: times are compared as multiples of it, so that no batch size outweighs the others.
inline double least_time(const Tiling& t, const Work& w, const Device& d) {
  const int64_t accesses = t.samples * t.rows * t.columns / w.access.vector;
  return kLaunch + traffic_time(accesses * w.access_bytes * w.maps, d.multiprocessors, d);
}

/// What a tiling costs in batches of so many samples, as a multiple of the least.
inline double cost(Tiling t, const Work& w, const Device& d, int resident, int64_t samples) {
  t.samples = samples;
  return call_time(t, w, d, resident) / least_time(t, w, d);
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

inline void set_split(Tiling& t, int groups) {
  t.split_groups = groups;
  t.splits = ceil_div(ceil_div(t.rows, t.group_rows), groups);
}

/// Where nothing is summed a block takes two flights of loads, or one where two leave less than a wave of blocks.
inline void set_plain_split(Tiling& t, const Work& w, const Device& d, int resident) {
  set_split(t, 2 * w.flight);
  if (t.samples * t.blocks_per_sample() < int64_t(resident) * d.multiprocessors) set_split(t, w.flight);
}

}  // namespace detail

/// The tiling for a feature map. Of a kernel that sums, it is the same for any number of samples of this size. Blocks
/// have at most `threads` threads.
inline Tiling choose_tiling(
    const Extent& extent, const Work& w, const Device& d, const Residency& residency, int threads) {
  const double least_busy = detail::least_busy(extent, w, threads);
  Tiling best{};
  double least = 0;
  const auto consider = [&](const Tiling& t, double cost) {
    if (least == 0 || cost < least) least = cost, best = t;
  };
  detail::for_groups(extent, w, threads, [&](Tiling t) {
    if (detail::busy_lanes(t, w) < least_busy) return;
    const int resident = residency.of(t.threads);
    if (!w.row_sums && !w.column_sums) {
      detail::set_plain_split(t, w, d, resident);
      return consider(t, detail::cost(t, w, d, resident, extent.samples));
    }
    const int groups = detail::ceil_div(t.rows, t.group_rows);
    const int longest = std::min(groups, std::max(1, (1 << 30) / t.group_rows));
    for (int each = 1; each <= longest; each += 1 + each / 8) {
      detail::set_split(t, each);
      double cost = 0;
      for (const Batch& batch : kBatches) cost += batch.weight * detail::cost(t, w, d, resident, batch.samples);
      consider(t, cost);
    }
  });
  return best;
}

}  // namespace bam_fused::cuda
