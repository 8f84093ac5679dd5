// A thread's place and its way: the sample, slab and split of its block, the row and columns of its slot, and from
// there its steps from group to group.
#pragma once

#include "../core/element.cuh"
#include "../core/portable.cuh"
#include "walk.h"

namespace bam_fused::cuda {

/// A feature map as a thread walks it: its place in the group it has reached, and the way to the next, in bytes.
template <typename T>
struct Walk {
  char* at;
  int64_t group;

  /// `AGAIN`: the map is read again soon, so its lines are left to the cache's default; else they are the first to go.
  template <int V, bool AGAIN = false>
  __device__ __forceinline__ Pack<T, V> load(int groups) const {
    const auto* from = reinterpret_cast<const decltype(Pack<T, V>::raw)*>(at + groups * group);
    if constexpr (AGAIN) return {__ldg(from)};
    return {__ldcs(from)};
  }

  template <int V>
  __device__ __forceinline__ void store(int groups, const Pack<T, V>& pack) const {
    write(reinterpret_cast<decltype(Pack<T, V>::raw)*>(at + groups * group), pack.raw);
  }

  __device__ __forceinline__ void advance(int groups) { at += groups * group; }
};

/// The row logits likewise.
template <typename T, bool STRADDLE>
struct LogitWalk {
  const char* at;
  int64_t group;
  int64_t next;  // from a row's to that of the row in which the slot ends
  bool float32;

  __device__ __forceinline__ void load(int groups, RawLogit<T>& first, RawLogit<T>& second) const {
    const char* from = at + groups * group;
    first = load_logit<T>(from, float32);
    if constexpr (STRADDLE) second = load_logit<T>(from + next, float32);  // a copy of `first` would wait for its load
  }

  __device__ __forceinline__ void advance(int groups) { at += groups * group; }
};

template <int V, bool STRADDLE>
struct Tile {
  int64_t sample;
  int slab, split;
  int slots;          // in this slab, of each row or, across rows, of the group
  int first_slot;     // of this slab in the group; 0 unless the group runs across rows
  int64_t first_row;  // of the split, and how many rows it has
  int rows;
  int row;         // the row of this thread's slot in its group
  int reach;       // it has elements in the groups that begin before this row of the split
  int64_t column;  // its first column
  int in_row;      // how many of its elements are in that row; the others begin the next one

  __device__ Tile(const Tiling& t, int64_t first_sample, unsigned block = blockIdx.x) {
    slab = static_cast<int>(block % t.slabs);
    split = static_cast<int>(block / t.slabs % t.splits);
    sample = first_sample + block / t.slabs / t.splits;
    const int64_t from = int64_t(slab) * t.slab_slots;
    const int64_t left_slots = (STRADDLE ? t.group_rows : 1) * t.columns / V - from;
    slots = static_cast<int>(left_slots < t.slab_slots ? left_slots : t.slab_slots);
    bool busy;
    if constexpr (STRADDLE) {
      const int columns = static_cast<int>(t.columns);
      first_slot = static_cast<int>(from);
      const int element = (first_slot + static_cast<int>(threadIdx.x)) * V;
      row = element / columns;
      const int first = element - row * columns;
      column = first;
      in_row = columns - first < V ? columns - first : V;
      busy = static_cast<int>(threadIdx.x) < slots;
    } else {
      first_slot = 0;
      row = static_cast<int>(threadIdx.x) / t.slab_slots;
      const int slot = static_cast<int>(threadIdx.x) - row * t.slab_slots;
      column = (from + slot) * V;
      in_row = V;
      busy = row < t.group_rows && slot < slots;
    }
    first_row = int64_t(split) * t.split_rows();
    const int64_t left = t.rows - first_row;
    rows = static_cast<int>(left < t.split_rows() ? left : t.split_rows());
    reach = busy ? rows - row : 0;
  }

  /// How many groups the split has.
  __device__ int groups(const Tiling& t) const { return (rows + t.group_rows - 1) / t.group_rows; }

  /// In how many of those, from the first on, this thread has elements.
  __device__ int own_groups(const Tiling& t, int groups) const {
    return reach <= 0 ? 0 : groups - (has((groups - 1) * t.group_rows) ? 0 : 1);
  }

  /// Whether this thread has elements in the group that begins at row `group` of the split.
  __device__ bool has(int group) const { return group < reach; }

  /// Whether its i-th element, from 0, is in the next row.
  __device__ bool straddles(int i) const { return STRADDLE && i > 0 && i >= in_row; }

  template <typename T>
  __device__ Walk<T> walk(const Course& m) const {
    char* at = static_cast<char*>(m.data);
    return {at + sample * m.sample + (first_row + row) * m.row + column * m.column, m.group};
  }

  template <typename T>
  __device__ LogitWalk<T, STRADDLE> walk_rows(const LogitCourse& m) const {
    const char* at = static_cast<const char*>(m.data);
    return {at + sample * m.sample + (first_row + row) * m.step, m.group, in_row < V ? m.step : 0, m.float32};
  }

  /// The logits of this slot's columns as they lie in memory, in as few loads as that allows.
  template <typename T>
  __device__ __forceinline__ void load_columns(const LogitCourse& m, int64_t columns, RawColumns<T, V>& to) const {
    if (reach <= 0) return;
    const char* at = static_cast<const char*>(m.data) + sample * m.sample;
    if (!STRADDLE && m.wide) return to.load_wide(at + column * m.step, m.float32);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const int64_t index = i < in_row ? column + i : column + i - columns;
      to.words[i] = load_logit<T>(at + index * m.step, m.float32);
    }
  }
};

}  // namespace bam_fused::cuda
