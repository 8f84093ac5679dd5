// Sums over rows and over columns in one walk, without atomics on values, in a fixed order.
//
// Row sums: after every kBatch groups the threads put what their slots add to a row (two rows where they straddle) into
// shared memory, and a few lanes per row add that up. Column sums stay in registers until a split ends. Where a row is
// spread over slabs, or a column over splits, blocks leave partial sums in a workspace (partials.cuh).
#pragma once

#include "partials.cuh"

namespace bam_fused::cuda {

/// What this thread's slots add to its columns. In float32 the sum of every kBlock groups is kept apart from the total,
/// so that a long chain of additions loses no more than a short one; 16-bit results round far above that.
template <typename T, int V>
class ColumnSums {
  using A = Compute<T>;
  static constexpr bool kTwoLevels = sizeof(T) == 4;
  static constexpr int kBlock = 16;
  A sums_[V] = {};
  A totals_[kTwoLevels ? V : 1] = {};
  int groups_ = 0;

 public:
  __device__ __forceinline__ A& operator[](int i) { return sums_[i]; }

  __device__ __forceinline__ void end_batch(int groups) {
    if constexpr (kTwoLevels) {
      if ((groups_ += groups) % kBlock == 0) flush();
    }
  }

  __device__ __forceinline__ void flush() {
#pragma unroll
    for (int i = 0; i < V; ++i) totals_[i] += sums_[i], sums_[i] = 0;
  }

  __device__ __forceinline__ const A (&total()) [V] {
    if constexpr (kTwoLevels) {
      flush();
      return totals_;
    } else {
      return sums_;
    }
  }
};

/// Put what this thread's slot adds to its row, and to the next where it straddles.
template <typename A, int V, bool STRADDLE>
__device__ __forceinline__ void put_row(const SharedSums<A, V, STRADDLE>& shared, int group, A first, A second) {
  shared.row_slot(0, group, threadIdx.x) = first;
  if constexpr (STRADDLE) shared.row_slot(1, group, threadIdx.x) = second;
}

/// Add up the rows of the batch of groups that begins at row `batch` of the split, of which all slots have been put;
/// `emit(row, sum)` is called once for each.
template <typename A, int V, bool STRADDLE, typename Emit>
__device__ __forceinline__ void add_rows(
    const SharedSums<A, V, STRADDLE>& shared, const Tile<V, STRADDLE>& tile, const Tiling& t, int batch, Emit emit) {
  __syncthreads();
  const int lanes = 1 << t.lanes_log2;
  const int tasks = ((kBatch * t.group_rows << t.lanes_log2) + 31) / 32 * 32;  // whole warps, for the shuffles
  for (int task = threadIdx.x; task < tasks; task += blockDim.x) {
    const int index = task >> t.lanes_log2;
    const int lane = task & (lanes - 1);
    const bool valid = index < kBatch * t.group_rows && batch + index < tile.rows;
    A sum = 0;
    if (valid) {
      const int group = t.group_of(index), row = index - group * t.group_rows;
      int begin = row * t.slab_slots, stop = begin + tile.slots;
      bool head = false;
      if constexpr (STRADDLE) {  // the slots that start in this row, seen from the slab's first
        const int columns = static_cast<int>(t.columns), element = row * columns;
        const int first = (element + V - 1) / V - tile.first_slot;
        const int end = (element + columns + V - 1) / V - tile.first_slot;
        head = element % V != 0 && first >= 1 && first <= tile.slots;
        begin = first > 0 ? first : 0;
        stop = end < tile.slots ? end : tile.slots;
      }
      for (int slot = begin + lane; slot < stop; slot += lanes) sum += shared.row_slot(0, group, slot);
      if constexpr (STRADDLE) {
        if (head && lane == 0) sum += shared.row_slot(1, group, begin - 1);
      }
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (valid && lane == 0) emit(tile.first_row + batch + index, sum);
  }
  __syncthreads();  // before the next batch's sums come there
}

/// Where a row's sum goes: to `final(sample, row, sum)`, or to the workspace where other slabs hold the rest.
template <typename A, int V, bool STRADDLE, typename Final>
__device__ __forceinline__ void emit_row(
    const Workspace& work, const Tile<V, STRADDLE>& tile, const Tiling& t, int64_t row, A sum, Final final) {
  if (t.slabs == 1) {
    final(tile.sample, row, sum);
  } else {
    __stcg(static_cast<A*>(work.rows) + (tile.sample * t.slabs + tile.slab) * t.rows + row, sum);
  }
}

/// At the end of a split: add up what the slots of this block hold for each column. A sum goes to `final(sample,
/// column, sum)` where this block holds all of it, else to the workspace.
template <typename A, int V, bool STRADDLE, typename Final>
__device__ __forceinline__ void emit_columns(
    const SharedSums<A, V, STRADDLE>& shared, const Workspace& work, const Tile<V, STRADDLE>& tile, const Tiling& t,
    const A (&sums)[V], Final final) {
  shared.put_columns(sums);
  __syncthreads();
  const ColumnPartials<A, V, STRADDLE> partials(work, tile, t);
  const int period = STRADDLE ? static_cast<int>(t.columns) : t.slab_slots * V;
  const int elements = STRADDLE ? tile.slots * V : t.group_rows * period;
  const int shift = STRADDLE ? tile.first_slot * V % period : 0;
  A* const partial = partials.of(tile.slab, tile.split);
  for (int column = threadIdx.x; column < partials.width; column += blockDim.x) {
    A sum = 0;
    for (int e = column >= shift ? column - shift : column - shift + period; e < elements; e += period) {
      sum += shared.columns()[e];
    }
    if (!partials.whole) {
      __stcg(partial + column, sum);
    } else if (column < partials.columns) {
      final(tile.sample, partials.origin + column, sum);
    }
  }
}

}  // namespace bam_fused::cuda
