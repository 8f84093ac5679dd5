// How a kernel walks the feature maps of a batch: which rows and columns a block owns.
//
// A slot is one access of V adjacent elements. The slots of a group of G rows repeat from group to group whenever G * columns
// is a multiple of V, so a thread that owns one slot meets the same V columns in every group: it keeps their logits, and
// their sums, in registers, and its accesses are aligned even where a row is not (49 or 196 pixels in 16 bits: 8 rows
// are 8 * 49 elements). A slot may then straddle two rows. Groups too wide for a block are cut into slabs of slots, and a
// sample's groups into splits; a block is one (sample, split, slab).
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "../core/call.h"

namespace bam_fused::cuda {

constexpr int kThreads = 256;  // the widest block
constexpr int kUnroll = 4;     // groups between two exchanges of row sums

struct Tiling {
  int64_t samples, rows, columns;
  int split_groups;  // consecutive groups that one block walks: at most 2^30 rows
  int group_rows;
  int slab_slots, slabs;
  int splits;
  int threads;
  int lanes_log2;  // a row sum is added up by 2^lanes_log2 neighbouring lanes

  /// How many columns `slots` slots of a slab meet: fewer than their elements where they span several rows.
  __host__ __device__ int met_columns(int slots, int vector) const {
    const int64_t elements = int64_t(slots) * vector;
    return static_cast<int>(columns < elements ? columns : elements);
  }

  /// Whether all slots that meet a column lie in one slab.
  __host__ __device__ bool private_columns() const { return slabs == 1 || group_rows == 1; }

  int64_t blocks_per_sample() const { return int64_t(slabs) * splits; }
};

/// One way to access the maps: V elements at a time, and whether an access may straddle two rows.
struct Access {
  int vector;
  bool straddle;
};

inline bool aligned(const Map& m, int vector, int bytes, const Extent& extent) {
  const bool base = reinterpret_cast<uintptr_t>(m.data) % (static_cast<size_t>(vector) * bytes) == 0;
  return base && (extent.samples == 1 || m.strides.sample % vector == 0);
}

/// The widest access that all maps allow. `wide` is the number of elements in 16 bytes.
template <typename... Maps>
Access widest_access(const Extent& extent, int wide, int bytes, const Maps&... maps) {
  const Access scalar{1, false};
  if (wide == 1 || !(aligned(maps, wide, bytes, extent) && ...)) return scalar;
  if (extent.columns % wide == 0 && ((extent.rows == 1 || maps.strides.row % wide == 0) && ...)) return {wide, false};
  const bool dense = ((extent.rows == 1 || maps.strides.row == extent.columns) && ...);
  if (dense && extent.columns >= wide && (extent.rows * extent.columns) % wide == 0) return {wide, true};
  return scalar;
}

/// How many splits a sample's groups are cut into: the fewest waves of blocks, a block costing its groups and a prologue.
inline int choose_splits(int64_t groups, int64_t blocks, int64_t resident, int64_t most) {
  constexpr int64_t prologue = 2;  // in groups
  int best = 1;
  int64_t least = INT64_MAX;
  for (int64_t splits = 1; splits <= std::min<int64_t>(most, 256); ++splits) {
    const int64_t waves = (blocks * splits + resident - 1) / resident;
    const int64_t cost = waves * ((groups + splits - 1) / splits + prologue);
    if (cost < least) {
      least = cost;
      best = static_cast<int>(splits);
    }
  }
  return best;
}

/// The tiling for blocks of at most `threads` threads, with at least `split_rows` rows in a split.
inline Tiling tile(const Extent& extent, Access access, int64_t split_rows, int64_t resident_threads, int threads) {
  Tiling t{};
  t.samples = extent.samples;
  t.rows = extent.rows;
  t.columns = extent.columns;
  const int64_t unit = access.straddle ? access.vector / std::gcd<int64_t>(extent.columns, access.vector) : 1;
  const int64_t unit_slots = unit * extent.columns / access.vector;
  const int64_t units = (extent.rows + unit - 1) / unit;
  const int64_t fitting = std::clamp<int64_t>(threads / unit_slots, 1, units);
  const int64_t slots = fitting * unit_slots;
  t.group_rows = static_cast<int>(fitting * unit);
  t.slabs = static_cast<int>((slots + threads - 1) / threads);
  t.slab_slots = static_cast<int>((slots + t.slabs - 1) / t.slabs);
  t.threads = (t.slab_slots + 31) / 32 * 32;
  while (t.lanes_log2 < 5 && (kUnroll * int64_t(t.group_rows) << (t.lanes_log2 + 1)) <= t.threads) ++t.lanes_log2;

  const int64_t groups = (extent.rows + t.group_rows - 1) / t.group_rows;
  const int64_t resident = std::max<int64_t>(1, resident_threads / t.threads);
  const int64_t most = std::max<int64_t>(1, std::min(groups, extent.rows / split_rows));
  const int splits = choose_splits(groups, extent.samples * t.slabs, resident, most);
  const int64_t longest = std::max(1, (1 << 30) / t.group_rows);
  t.split_groups = static_cast<int>(std::min((groups + splits - 1) / splits, longest));
  t.splits = static_cast<int>((groups + t.split_groups - 1) / t.split_groups);
  return t;
}

/// The tiling for a device on which `blocks` blocks of kThreads reside on a multiprocessor: narrower blocks where wide ones
/// would leave multiprocessors without work, unless they would share columns, which costs partial sums.
inline Tiling tile_for(const Extent& extent, Access access, int64_t split_rows, int blocks, const Target& target) {
  const int64_t resident_threads = int64_t(target.multiprocessors) * blocks * kThreads;
  Tiling best = tile(extent, access, split_rows, resident_threads, target.threads);
  for (int threads = target.threads / 2; threads >= 64; threads /= 2) {
    if (extent.samples * best.blocks_per_sample() * best.threads >= resident_threads) break;
    const Tiling narrow = tile(extent, access, split_rows, resident_threads, threads);
    if (narrow.slabs == best.slabs || (narrow.slabs > 1 && access.straddle)) break;
    best = narrow;
  }
  return best;
}

}  // namespace bam_fused::cuda
