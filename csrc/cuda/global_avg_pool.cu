// global_avg_pool: the means of the rows (NCHW) or of the columns (NHWC) of each sample, in one pass over x.
//
// Rows that accesses do not straddle have a kernel of their own: a few threads walk along a row, and nothing is
// partial.
#include "../operations/global_avg_pool.h"

#include "core/instances.h"
#include "streaming/workspace.h"

namespace bam_fused {
namespace cuda {
namespace {

// Loads in flight per thread.
constexpr int kFlight = 4;

// Blocks resident on a multiprocessor: 40 registers; 4 loads of 16 bytes per thread: 96 KB in flight
constexpr int kRowBlocks = 6;

struct RowArguments {
  int64_t samples, rows, columns;
  Course x;  // its groups are what the threads of a row take at a time
  int lanes_log2;
  Results means;
};

/// 2^lanes_log2 neighbouring threads for each row.
template <typename T, int V>
__global__ void __launch_bounds__(kThreads, kRowBlocks) row_means_kernel(const RowArguments a) {
  using A = Compute<T>;
  const int lanes = 1 << a.lanes_log2, lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  const int64_t index = int64_t(blockIdx.x) * (blockDim.x >> a.lanes_log2) + (threadIdx.x >> a.lanes_log2);
  A sum = 0;
  if (index < a.samples * a.rows) {
    const int64_t sample = index / a.rows, row = index - sample * a.rows;
    const int64_t place = sample * a.x.sample + row * a.x.row + int64_t(lane) * V * a.x.column;
    Walk<T> from{static_cast<char*>(a.x.data) + place, a.x.group};
    for (int64_t left = (a.columns / V - lane + lanes - 1) >> a.lanes_log2; left > 0; left -= kFlight) {
      Pack<T, V> packs[kFlight];
#pragma unroll
      for (int u = 0; u < kFlight; ++u) {
        if (u < left) packs[u] = from.template load<V, true>(u);
      }
      from.advance(kFlight);
      A flight = 0;  // apart from the total: a long row's sum is made of short ones
#pragma unroll
      for (int u = 0; u < kFlight; ++u) {
        if (u >= left) continue;
        A x[V];
        packs[u].widen(x);
#pragma unroll
        for (int i = 0; i < V; ++i) flight += x[i];
      }
      sum += flight;
    }
  }
  for (int offset = (lanes < 32 ? lanes : 32) / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  }
  if (lanes > 32) {
    A* const of_warps = static_cast<A*>(shared_memory());
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if (threadIdx.x % 32 == 0) of_warps[warp] = sum;
    __syncthreads();
    for (int other = 1; lane == 0 && other < lanes / 32; ++other) sum += of_warps[warp + other];
  }
  if (lane == 0 && index < a.samples * a.rows) store_result<T>(a.means, index, sum / static_cast<A>(a.columns));
}

/// As many threads for a row as make it one flight of loads, but those of a line of memory at least.
int lanes_log2(int64_t accesses, int access_bytes, int threads) {
  const int least = std::min(32, 128 / access_bytes);
  int log2 = 0;
  while ((2 << log2) <= threads && (1 << log2) < accesses && ((1 << log2) < least || (kFlight << log2) < accesses))
    ++log2;
  return log2;
}

template <typename T, int V>
void launch_row_means(const PoolCall& call, const Target& target) {
  const Extent& extent = call.extent;
  constexpr int size = sizeof(T);
  const int log2 = lanes_log2(extent.columns / V, size * V, target.threads);
  constexpr int usual_threads = 128;
  const int threads = std::max(1 << log2, std::min(usual_threads, target.threads));
  const int64_t rows_each = threads >> log2, rows = extent.samples * extent.rows;
  const Course x{
      call.x.data, call.x.strides.sample * size, call.x.strides.row * size, (int64_t(V) * size) << log2, size};
  const cudaError_t error = launch_blocks(
      row_means_kernel<T, V>, RowArguments{extent.samples, extent.rows, extent.columns, x, log2, call.means},
      (rows + rows_each - 1) / rows_each, threads, threads / 32 * static_cast<int>(sizeof(Compute<T>)), target.stream);
  if (error != cudaSuccess) check(error, "launch for the means of " + std::to_string(rows) + " rows");
}

// Blocks resident on a multiprocessor: 64 registers; 4 loads of 16 bytes per thread: 64 KB in flight
constexpr int kBlocks = 4;

struct PoolArguments {
  Tiling tiling;
  int64_t first_sample;
  Course x;
  Results means;
  Workspace work;
};

template <typename T, int V, bool STRADDLE, bool ROWS>
__global__ void __launch_bounds__(kThreads, kBlocks) global_avg_pool_kernel(const PoolArguments a) {
  using A = Compute<T>;
  constexpr int U = kFlight;
  const SharedSums<A, V, STRADDLE> shared;
  const auto final_mean = [&](int64_t sample, int64_t index, A sum) {
    const int64_t vector = ROWS ? a.tiling.rows : a.tiling.columns;
    const int64_t count = ROWS ? a.tiling.columns : a.tiling.rows;
    store_result<T>(a.means, sample * vector + index, sum / static_cast<A>(count));
  };
  const Tile<V, STRADDLE> tile(a.tiling, a.first_sample, opaque(blockIdx.x));
  ColumnSums<T, V> column_sums;
  Walk<T> from = tile.template walk<T>(a.x);
  const int groups = tile.groups(a.tiling), own_groups = tile.own_groups(a.tiling, groups);
  const auto add = [&](int done, int to) {  // of the next U groups, when so many are done
    const int left = own_groups - done;
    Pack<T, V> packs[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u < left) packs[u] = from.template load<V, true>(u);
    }
    from.advance(U);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      A first_sum = 0, second_sum = 0;
      if (u < left) {
        A x[V];
        packs[u].widen(x);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          if constexpr (ROWS) (tile.straddles(i) ? second_sum : first_sum) += x[i];
          if constexpr (!ROWS) column_sums[i] += x[i];
        }
      }
      if constexpr (ROWS) put_row(shared, to + u, first_sum, second_sum);
    }
  };
  if constexpr (ROWS) {
    for (int g = 0; g < groups; g += kBatch) {
#pragma unroll 1
      for (int b = 0; b < kBatch && g + b < groups; b += U) add(g + b, b);
      add_rows(shared, tile, a.tiling, g * a.tiling.group_rows, [&](int64_t row, A sum) {
        emit_row(a.work, tile, a.tiling, row, sum, final_mean);
      });
    }
  } else {
#pragma unroll 1
    for (int g = 0; g < groups; g += U) add(g, 0), column_sums.end_batch(U);
  }
  const Tile<V, STRADDLE> end(a.tiling, a.first_sample, opaque(blockIdx.x));
  if constexpr (!ROWS) emit_columns(shared, a.work, end, a.tiling, column_sums.total(), final_mean);
  finish<ROWS, !ROWS>(shared, a.work, end, a.tiling, final_mean, final_mean);
}

const Listed listed([](std::vector<Instance>& to) {
  for_instances([&](auto type, auto vector, auto straddle, const std::string& name) {
    using T = typename decltype(type)::type;
    constexpr int V = vector.value;
    const auto list = [&](const char* what, auto kernel, int shared) {
      to.push_back({"global_avg_pool " + name + what, reinterpret_cast<const void*>(kernel), shared});
    };
    const auto shared = [&](bool of_rows) {
      return shared_bytes({V, straddle.value}, sizeof(Compute<T>), of_rows, !of_rows, kThreads);
    };
    if constexpr (straddle.value) {
      list(" of rows", global_avg_pool_kernel<T, V, true, true>, shared(true));
    } else {
      list(" of rows", row_means_kernel<T, V>, kWarps * sizeof(Compute<T>));
    }
    list(" of columns", global_avg_pool_kernel<T, V, straddle.value, false>, shared(false));
  });
});

template <typename T, int V, bool STRADDLE, bool ROWS>
void launch_walk(const PoolCall& call, const Target& target) {
  const Access access{V, STRADDLE};
  constexpr int maps = 1, size = sizeof(T), sum_size = sizeof(Compute<T>);
  const auto shared = [&](int threads) { return shared_bytes(access, sum_size, ROWS, !ROWS, threads); };
  const auto kernel = global_avg_pool_kernel<T, V, STRADDLE, ROWS>;
  const Work work{access, size * V, maps, kFlight, sum_size, ROWS, !ROWS};
  const Tiling t = fit(reinterpret_cast<const void*>(kernel), call.extent, work, target, shared);
  launch(
      kernel, PoolArguments{t, 0, course(call.x, t, size), call.means, reserve(t, work, target)}, target,
      shared(t.threads));
}

}  // namespace
}  // namespace cuda

void launch(const PoolCall& call, const Target& target) {
  using namespace cuda;
  const Access access = widest_access(call.extent, wide(call.dtype), element_size(call.dtype), call.x);
  for_dtype(call.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    for_access<T>(access, [&](auto vector, auto straddle) {
      constexpr int V = vector.value;
      constexpr bool across = straddle.value;
      if (!call.of_rows) return launch_walk<T, V, across, false>(call, target);
      if constexpr (across) return launch_walk<T, V, true, true>(call, target);
      if constexpr (!across) return launch_row_means<T, V>(call, target);
    });
  });
}

}  // namespace bam_fused
