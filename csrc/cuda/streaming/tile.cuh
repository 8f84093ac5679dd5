// A thread's place and its way: the sample, the slab and split of its block, the row and columns of its slot,
// and from there its steps from group to group.
#pragma once

#include "../core/element.cuh"
#include "../core/portable.cuh"
#include "tiling.h"

namespace bam_fused::cuda {

/// A feature map as a thread walks it: its place in the first group of its split, and the way to the next group.
template <typename T>
struct Walk {
  T* at;
  int64_t group;  // elements from one group to the next

  template <int V>
  __device__ __forceinline__ Pack<T, V> load(int groups) const {
    return {__ldcs(reinterpret_cast<const decltype(Pack<T, V>::raw)*>(at + groups * group))};
  }

  template <int V>
  __device__ __forceinline__ void store(int groups, const Pack<T, V>& pack) const {
    write(reinterpret_cast<decltype(Pack<T, V>::raw)*>(at + groups * group), pack.raw);
  }

  __device__ __forceinline__ void advance(int groups) { at += groups * group; }
};

template <int V, bool STRADDLE>
struct Tile {
  int64_t sample;
  int slab, split;
  int slots;           // in this slab
  int64_t first_slot;  // of this slab
  int64_t first_row;   // of this split
  int rows;            // in this split
  int row;             // the row of this thread's slot in its group
  int reach;           // it has elements in the groups that begin before this row of the split
  int64_t column;      // its first column
  int in_row;          // how many of its elements are in that row; the others begin the next one

  __device__ Tile(const Tiling& t, int64_t first_sample, unsigned block = blockIdx.x) {
    slab = static_cast<int>(block % t.slabs);
    split = static_cast<int>(block / t.slabs % t.splits);
    sample = first_sample + block / t.slabs / t.splits;
    first_slot = int64_t(slab) * t.slab_slots;
    const int64_t group_slots = t.group_rows * t.columns / V;
    slots = static_cast<int>(group_slots - first_slot < t.slab_slots ? group_slots - first_slot : t.slab_slots);
    const int split_rows = t.split_groups * t.group_rows;
    first_row = int64_t(split) * split_rows;
    rows = static_cast<int>(t.rows - first_row < split_rows ? t.rows - first_row : split_rows);
    const int64_t element = (first_slot + threadIdx.x) * V;
    row = static_cast<int>(element / t.columns);
    reach = static_cast<int>(threadIdx.x) < slots ? rows - row : 0;
    column = element - row * t.columns;
    in_row = STRADDLE && t.columns - column < V ? static_cast<int>(t.columns - column) : V;
  }

  /// Whether this thread has elements in the group that begins at row `group` of the split.
  __device__ bool has(int group) const { return group < reach; }

  template <typename T>
  __device__ Walk<T> walk(const Map& m, const Tiling& t) const {
    return {
        static_cast<T*>(m.data) + sample * m.strides.sample + (first_row + row) * m.strides.row + column,
        t.group_rows * m.strides.row};
  }

  /// The logits of this slot's columns.
  template <typename T>
  __device__ void load_columns(const Logits& logits, int64_t columns, Compute<T> (&to)[V]) const {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const int64_t index = i < in_row ? column + i : column + i - columns;
      const int64_t at = sample * logits.sample + index * logits.step;
      to[i] = reach > 0 ? widen_logit<T>(load_logit<T>(logits, at), logits.float32) : Compute<T>(0);
    }
  }

  /// The logits of this slot's row in the group at row `group` of the split and, where it straddles, of the next row.
  template <typename T>
  __device__ void load_rows(const Logits& logits, int group, RawLogit<T>& first, RawLogit<T>& second) const {
    const int64_t at = sample * logits.sample + (first_row + group + row) * logits.step;
    first = load_logit<T>(logits, at);
    if constexpr (STRADDLE) {
      second = load_logit<T>(logits, in_row < V ? at + logits.step : at);  // a copy of `first` would wait for its load
    }
  }
};

}  // namespace bam_fused::cuda
