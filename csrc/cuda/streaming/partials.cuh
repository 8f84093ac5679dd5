// Partial sums: the workspace in which blocks leave them, and how the block that arrives last adds them up. It does so
// in the order of their index, with all its threads, so the result does not depend on which block that is.
#pragma once

#include "choose_tiling.h"
#include "shared_bytes.h"
#include "tile.cuh"

namespace bam_fused::cuda {

/// Partial sums of the compute type, and arrival counters that are zero at launch. Unused parts are null.
struct Workspace {
  void* rows;              // (sample, slab, row)
  void* columns;           // (sample, slab, split, column of the slab), or (sample, split, slab, column) where shared
  unsigned* row_counters;  // (sample, split)
  unsigned* column_counters;  // (sample, slab), or (sample) where columns are not private to a slab
};

/// Two views of a block's shared memory, for row sums during the walk and for column sums between and after.
template <typename A, int V, bool STRADDLE>
struct SharedSums {
  struct Arrived {
    bool rows, columns;
  };

  A* const memory;  // behind `Arrived`

  __device__ SharedSums() : memory(static_cast<A*>(shared_memory()) + kArrivedBytes / sizeof(A)) {}

  __device__ Arrived& arrived() const { return *static_cast<Arrived*>(shared_memory()); }

  /// (first or second, group, slot)
  __device__ __forceinline__ A& row_slot(int which, int group, int slot) const {
    return memory[(which * kBatch + group) * blockDim.x + slot];
  }

  __device__ const A* columns() const { return memory; }

  __device__ void put_columns(const A (&sums)[V]) const {
    struct alignas(V == 1 ? sizeof(A) : 16) Several {
      A values[V == 1 ? 1 : 4];
    };
#pragma unroll
    for (int i = 0; i < V; i += V == 1 ? 1 : 4) {
      Several several;
#pragma unroll
      for (int j = 0; j < (V == 1 ? 1 : 4); ++j) several.values[j] = sums[i + j];
      *reinterpret_cast<Several*>(memory + threadIdx.x * V + i) = several;
    }
  }
};

/// Where a sample's, or a slab's, partial column sums lie, and which columns they are for.
template <typename A, int V, bool STRADDLE>
struct ColumnPartials {
  bool own;        // no other slab meets these columns
  bool whole;      // nor another split: there are no partial sums
  int width;       // of a block's partial sums, in whole chunks
  int64_t origin;  // the first column
  int columns;     // how many there are
  int slabs, splits;
  A* data;

  __device__ ColumnPartials(const Workspace& work, const Tile<V, STRADDLE>& tile, const Tiling& t) {
    own = t.private_columns(STRADDLE);
    whole = own && t.splits == 1;
    width = t.partial_columns(V, STRADDLE);
    origin = STRADDLE ? 0 : int64_t(tile.slab) * t.slab_slots * V;
    columns = STRADDLE ? static_cast<int>(t.columns) : tile.slots * V;
    slabs = own ? 1 : t.slabs, splits = t.splits;
    data = static_cast<A*>(work.columns) + (tile.sample * t.slabs + (own ? tile.slab : 0)) * t.splits * width;
  }

  __device__ int parts() const { return splits * slabs; }

  __device__ A* of(int slab, int split) const { return data + int64_t(own ? split : split * slabs + slab) * width; }
};

/// Which sums this block, as the last of all that hold partial ones, is to add up; what those wrote is visible to it.
template <typename A, int V, bool STRADDLE>
__device__ __forceinline__ typename SharedSums<A, V, STRADDLE>::Arrived arrive(
    const SharedSums<A, V, STRADDLE>& shared, const Workspace& work, const Tile<V, STRADDLE>& tile, const Tiling& t,
    bool rows, bool columns) {
  const bool own = t.private_columns(STRADDLE);
  const unsigned expected = own ? t.splits : t.splits * t.slabs;
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned* const row_counter = work.row_counters + tile.sample * t.splits + tile.split;
    unsigned* const column_counter = work.column_counters + (own ? tile.sample * t.slabs + tile.slab : tile.sample);
    fence();
    const bool last_of_rows = rows && atomicAdd(row_counter, 1u) == unsigned(t.slabs) - 1;
    const bool last_of_columns = columns && (expected == 1 || atomicAdd(column_counter, 1u) == expected - 1);
    fence();
    shared.arrived() = {last_of_rows, last_of_columns};
  }
  __syncthreads();
  return shared.arrived();
}

/// The row sums of all slabs, of the rows of this block's split, by one thread each.
template <typename A, int V, bool STRADDLE, typename Final>
__device__ __forceinline__ void add_row_partials(
    const Workspace& work, const Tile<V, STRADDLE>& tile, const Tiling& t, Final final) {
  const A* partials = static_cast<const A*>(work.rows) + tile.sample * t.slabs * t.rows;
  for (int64_t row = tile.first_row + threadIdx.x; row < tile.first_row + tile.rows; row += blockDim.x) {
    A sum = 0;
    for (int slab = 0; slab < t.slabs; slab += kPartialLoads) {
      A parts[kPartialLoads];
#pragma unroll
      for (int i = 0; i < kPartialLoads; ++i) {
        if (slab + i < t.slabs) parts[i] = __ldcg(partials + (slab + i) * t.rows + row);
      }
#pragma unroll
      for (int i = 0; i < kPartialLoads; ++i) {
        if (slab + i < t.slabs) sum += parts[i];
      }
    }
    final(tile.sample, row, sum);
  }
}

/// The column sums of all splits and, where columns are shared among slabs, of all slabs: by chunks of columns that one
/// load brings, each added up by a few threads, whose sums are then added up in their order.
template <typename A, int V, bool STRADDLE, typename Final>
__device__ __forceinline__ void add_column_partials(
    const SharedSums<A, V, STRADDLE>& shared, const Workspace& work, const Tile<V, STRADDLE>& tile, const Tiling& t,
    Final final) {
  constexpr int kChunk = V < 4 ? V : 4;
  using Raw = std::conditional_t<kChunk == 1, A, uint4>;
  static_assert(sizeof(Raw) == kChunk * sizeof(A));
  const ColumnPartials<A, V, STRADDLE> partials(work, tile, t);
  const int parts = partials.parts(), chunks = partials.width / kChunk;
  const int lanes = partial_lanes(chunks, parts, blockDim.x);
  A* const sums = shared.memory;  // (lane, column)
  for (int first = 0; first < chunks; first += blockDim.x) {
    const int lane = lanes == 1 ? 0 : threadIdx.x / chunks;
    const int chunk = first + threadIdx.x - lane * chunks;
    const bool busy = lane < lanes && chunk < chunks;
    A sum[kChunk] = {};
    for (int part = lane; busy && part < parts; part += lanes * kPartialLoads) {
      Raw raw[kPartialLoads];
      const A* from = partials.data + int64_t(part) * partials.width + chunk * kChunk;
#pragma unroll
      for (int i = 0; i < kPartialLoads; ++i) {
        const int64_t step = int64_t(i) * lanes;
        if (part + step < parts) raw[i] = __ldcg(reinterpret_cast<const Raw*>(from + step * partials.width));
      }
#pragma unroll
      for (int i = 0; i < kPartialLoads; ++i) {
        if (part + i * lanes >= parts) continue;
        A values[kChunk];
        memcpy(values, &raw[i], sizeof(Raw));
#pragma unroll
        for (int j = 0; j < kChunk; ++j) sum[j] += values[j];
      }
    }
    if (lanes > 1) {
#pragma unroll
      for (int j = 0; busy && j < kChunk; ++j) sums[lane * partials.width + chunk * kChunk + j] = sum[j];
      __syncthreads();
      for (int other = 1; lane == 0 && other < lanes; ++other) {
#pragma unroll
        for (int j = 0; j < kChunk; ++j) sum[j] += sums[other * partials.width + chunk * kChunk + j];
      }
    }
#pragma unroll
    for (int j = 0; j < kChunk; ++j) {
      const int column = chunk * kChunk + j;
      if (busy && lane == 0 && column < partials.columns) final(tile.sample, partials.origin + column, sum[j]);
    }
  }
}

/// At the end of a block: the sums that were left partial, where it is the last to arrive.
template <bool ROWS, bool COLUMNS, typename A, int V, bool STRADDLE, typename FinalRow, typename FinalColumn>
__device__ __forceinline__ void finish(
    const SharedSums<A, V, STRADDLE>& shared, const Workspace& work, const Tile<V, STRADDLE>& tile, const Tiling& t,
    FinalRow final_row, FinalColumn final_column) {
  const bool rows = ROWS && t.slabs > 1;
  const bool columns = COLUMNS && !(t.private_columns(STRADDLE) && t.splits == 1);
  if (!rows && !columns) return;
  const auto last = arrive(shared, work, tile, t, rows, columns);
  if constexpr (ROWS) {
    if (last.rows) add_row_partials<A>(work, tile, t, final_row);
  }
  if constexpr (COLUMNS) {
    if (last.columns) add_column_partials(shared, work, tile, t, final_column);
  }
}

}  // namespace bam_fused::cuda
