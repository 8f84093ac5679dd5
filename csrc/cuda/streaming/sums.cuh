// Sums over rows and over columns in one walk, without atomics on values, in a fixed order.
//
// Row sums: after every kUnroll groups the threads put what their slots add to a row (two rows where they straddle) into
// shared memory, and a few lanes per row add that up. Column sums stay in registers until the split ends. Where a row is
// spread over slabs, or a column over splits, blocks leave partial sums in a workspace; the block that arrives last adds
// them up in index order, so the result does not depend on which block that is.
#pragma once

#include "tile.cuh"

namespace bam_fused::cuda {

/// Partial sums of the compute type, and arrival counters that are zero at launch. Unused parts are null.
struct Workspace {
  void* rows;                 // (sample, slab, row)
  void* columns;              // (sample, slab, split, column of the slab)
  unsigned* row_counters;     // (sample, split)
  unsigned* column_counters;  // (sample, slab), or (sample) where columns are not private to a slab
};

template <typename A, int V, bool STRADDLE>
struct SharedSums {
  union {
    struct {
      A first[2][kUnroll][kThreads];
      A second[STRADDLE ? 2 : 1][STRADDLE ? kUnroll : 1][STRADDLE ? kThreads : 1];
    } rows;  // double-buffered: one barrier per batch
    A columns[kThreads * V];
  };
  bool last;
};

/// What this thread's slots add to its columns. In float32 the sum of every kBlock batches is kept apart from the total, so
/// that a long chain of additions loses no more than a short one; 16-bit results round far above that.
template <typename T, int V>
class ColumnSums {
  using A = Compute<T>;
  static constexpr bool kTwoLevels = sizeof(T) == 4;
  static constexpr int kBlock = 4;
  A sums_[V] = {};
  A totals_[kTwoLevels ? V : 1] = {};
  int batches_ = 0;

 public:
  __device__ __forceinline__ void add(int i, A value) { sums_[i] += value; }

  __device__ __forceinline__ void end_batch() {
    if constexpr (kTwoLevels) {
      if (++batches_ % kBlock == 0) flush();
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
__device__ __forceinline__ void put_row(SharedSums<A, V, STRADDLE>& shared, int buffer, int group, A first, A second) {
  shared.rows.first[buffer][group][threadIdx.x] = first;
  if constexpr (STRADDLE) shared.rows.second[buffer][group][threadIdx.x] = second;
}

/// Add up the rows of the batch of groups that begins at row `batch` of the split; `emit(row, sum)` is called once for each.
template <typename A, int V, bool STRADDLE, typename Emit>
__device__ __forceinline__ void add_rows(
    const SharedSums<A, V, STRADDLE>& shared, int buffer, const Tile<V, STRADDLE>& tile, const Tiling& t, int batch,
    Emit emit) {
  const int lanes = 1 << t.lanes_log2;
  const int tasks = ((kUnroll * t.group_rows << t.lanes_log2) + 31) / 32 * 32;  // whole warps, for the shuffles
  for (int task = threadIdx.x; task < tasks; task += blockDim.x) {
    const int index = task >> t.lanes_log2;
    const int lane = task & (lanes - 1);
    const bool valid = index < kUnroll * t.group_rows && batch + index < tile.rows;
    A sum = 0;
    if (valid) {
      const int group = index / t.group_rows;
      const int64_t element = (index - group * t.group_rows) * t.columns;
      // The slots that start in this row, seen from the slab's first.
      const int64_t begin = (element + V - 1) / V - tile.first_slot;
      const int64_t end = (element + t.columns + V - 1) / V - tile.first_slot;
      const int64_t stop = end < tile.slots ? end : tile.slots;
      for (int64_t slot = (begin > 0 ? begin : 0) + lane; slot < stop; slot += lanes) {
        sum += shared.rows.first[buffer][group][slot];
      }
      if constexpr (STRADDLE) {
        const bool head = element % V != 0 && begin >= 1 && begin <= tile.slots;
        if (head && lane == 0) sum += shared.rows.second[buffer][group][begin - 1];
      }
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (valid && lane == 0) emit(tile.first_row + batch + index, sum);
  }
}

/// Whether this block is the last of `expected` to arrive here. What the others wrote before is visible to it.
__device__ __forceinline__ bool arrives_last(unsigned* counter, unsigned expected, bool& last) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(counter, 1u) == expected - 1;
    __threadfence();
  }
  __syncthreads();
  return last;
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

/// At the end of a split: the last slab to arrive adds the row sums of all slabs.
template <typename A, int V, bool STRADDLE, typename Final>
__device__ __forceinline__ void finish_rows(
    SharedSums<A, V, STRADDLE>& shared, const Workspace& work, const Tile<V, STRADDLE>& tile, const Tiling& t,
    Final final) {
  if (t.slabs == 1) return;
  if (!arrives_last(work.row_counters + tile.sample * t.splits + tile.split, t.slabs, shared.last)) return;
  const A* partial = static_cast<const A*>(work.rows) + tile.sample * t.slabs * t.rows;
  for (int64_t row = tile.first_row + threadIdx.x; row < tile.first_row + tile.rows; row += blockDim.x) {
    A sum = 0;
    for (int slab = 0; slab < t.slabs; ++slab) sum += __ldcg(partial + slab * t.rows + row);
    final(tile.sample, row, sum);
  }
}

/// Add the partial column sums of all splits and, where columns are shared among slabs, of all slabs.
template <typename A, int V, bool STRADDLE, typename Final>
__device__ __forceinline__ void add_column_partials(
    const A* partials, const Tile<V, STRADDLE>& tile, const Tiling& t, bool own, Final final) {
  constexpr int kColumns = V < 4 ? V : 4;  // at once, for as many loads in flight
  const int64_t stride = t.met_columns(t.slab_slots, V);
  const int64_t group_slots = t.group_rows * t.columns / V;
  const int64_t origin = own ? tile.first_slot * V % t.columns : 0;
  const int64_t width = own ? t.met_columns(tile.slots, V) : t.columns;
  for (int64_t base = threadIdx.x; base < width; base += int64_t(kColumns) * blockDim.x) {
    A sums[kColumns] = {};
#pragma unroll 1
    for (int slab = own ? tile.slab : 0; slab < (own ? tile.slab + 1 : t.slabs); ++slab) {
      const int64_t first = int64_t(slab) * t.slab_slots;
      const int64_t slots = group_slots - first < t.slab_slots ? group_slots - first : t.slab_slots;
      const int64_t shift = own ? 0 : first * V % t.columns;
      const int64_t met = t.met_columns(static_cast<int>(slots), V);
#pragma unroll 1
      for (int split = 0; split < t.splits; ++split) {
        const A* partial = partials + (int64_t(slab) * t.splits + split) * stride;
#pragma unroll
        for (int i = 0; i < kColumns; ++i) {
          const int64_t column = base + i * blockDim.x;
          const int64_t at = column >= shift ? column - shift : column - shift + t.columns;
          if (column < width && at < met) sums[i] += __ldcg(partial + at);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int64_t column = base + i * blockDim.x;
      if (column < width) final(tile.sample, origin + column, sums[i]);
    }
  }
}

/// At the end of a split: add what the slots of this block hold for each column, and what other blocks hold.
template <typename A, int V, bool STRADDLE, typename Final>
__device__ __forceinline__ void finish_columns(
    SharedSums<A, V, STRADDLE>& shared, const Workspace& work, const Tile<V, STRADDLE>& tile, const Tiling& t,
    const A (&sums)[V], Final final) {
  __syncthreads();  // the row sums that lie in the same memory have been read
#pragma unroll
  for (int i = 0; i < V; ++i) shared.columns[threadIdx.x * V + i] = sums[i];
  __syncthreads();
  const bool own = t.private_columns();
  const bool whole = own && t.splits == 1;
  A* partials = static_cast<A*>(work.columns) + tile.sample * t.slabs * t.splits * t.met_columns(t.slab_slots, V);
  A* partial = partials + (int64_t(tile.slab) * t.splits + tile.split) * t.met_columns(t.slab_slots, V);
  const int64_t origin = tile.first_slot * V % t.columns;
  const int met = t.met_columns(tile.slots, V);
  for (int column = threadIdx.x; column < met; column += blockDim.x) {
    A sum = 0;
    for (int64_t element = column; element < int64_t(tile.slots) * V; element += t.columns) {
      sum += shared.columns[element];
    }
    if (whole) {
      final(tile.sample, origin + column, sum);
    } else {
      __stcg(partial + column, sum);
    }
  }
  if (whole) return;
  unsigned* counter = work.column_counters + (own ? tile.sample * t.slabs + tile.slab : tile.sample);
  if (arrives_last(counter, own ? t.splits : t.splits * t.slabs, shared.last)) {
    add_column_partials<A, V, STRADDLE>(partials, tile, t, own, final);
  }
}

}  // namespace bam_fused::cuda
