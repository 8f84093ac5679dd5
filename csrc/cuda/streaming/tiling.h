// How a kernel walks the feature maps of a batch: which rows and columns a block owns.
//
// A slot is one access of V adjacent elements. A block's threads own the slots of a group of rows and walk from group
// to group. A thread meets the same V columns in every group: it keeps their logits, and their sums, in registers.
//
// Where rows are whole vectors, a row is cut into slabs of adjacent slots, and a group is a slab of several rows. Where
// they are not (49 or 196 pixels in 16 bits) an access may straddle two rows: the slots of G rows repeat from group to
// group whenever G * columns is a multiple of V (8 rows are 8 * 49 elements), so that all accesses are aligned even
// there. Such a group runs across its rows, and is cut into slabs only where it is too wide for a block.
//
// A sample's groups are cut into splits, whose column sums are added up apart; a block is one (sample, split, slab).
// Where there are such sums the splits are the same for every batch, so that they do not depend on the samples beside.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../core/target.h"

namespace bam_fused::cuda {

constexpr int kThreads = 256;  // the widest block
constexpr int kWarps = kThreads / 32;
constexpr int kBatch = 8;  // groups between two exchanges of row sums

struct Tiling {
  int64_t samples, rows, columns;
  int group_rows;
  int slab_slots;  // of each row or, across rows, of the group
  int slabs;
  int split_groups;  // at most 2^30 rows
  int splits;
  int threads;
  int lanes_log2;          // a row sum is added up by 2^lanes_log2 neighbouring lanes
  int inverse_group_rows;  // 2^20 over that, rounded up

  __host__ __device__ int split_rows() const { return split_groups * group_rows; }

  /// index / group_rows of a row of a batch: of fewer than 8 * 2^8, which 2^20 is enough for.
  __host__ __device__ int group_of(int index) const { return index * inverse_group_rows >> 20; }

  /// Whether all slots that meet a column lie in one slab. `straddle`: of an access across rows.
  __host__ __device__ bool private_columns(bool straddle) const { return !straddle || slabs == 1; }

  /// How many columns a block's partial sums are for, in whole chunks of up to four.
  __host__ __device__ int partial_columns(int vector, bool straddle) const {
    const int64_t slab = int64_t(slab_slots) * vector;
    const int64_t met = straddle || columns < slab ? columns : slab;
    return static_cast<int>(vector == 1 ? met : (met + 3) / 4 * 4);
  }

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
  constexpr int64_t most = 1 << 27;  // columns: the elements of a group are counted in 32 bits
  if (dense && extent.columns >= wide && extent.columns <= most && (extent.rows * extent.columns) % wide == 0)
    return {wide, true};
  return scalar;
}

}  // namespace bam_fused::cuda
