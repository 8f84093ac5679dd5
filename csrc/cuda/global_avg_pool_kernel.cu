// global_avg_pool: the means of the rows (NCHW) or of the columns (NHWC) of each sample, in one pass over x.
#include "core/instances.h"
#include "kernels.h"
#include "streaming/workspace.h"

namespace bam_fused::cuda {
namespace {

// Blocks resident on a multiprocessor: 80 registers; 4 loads of 16 bytes per thread: 48 KB in flight
constexpr int kBlocks = 3;

struct PoolArguments {
  Tiling tiling;
  int64_t first_sample;
  Map x;
  Results means;
  Workspace work;
};

template <typename T, int V, bool STRADDLE, bool ROWS>
__global__ void __launch_bounds__(kThreads, kBlocks) global_avg_pool_kernel(const PoolArguments a) {
  using A = Compute<T>;
  constexpr int U = kUnroll;  // loads in flight per thread
  BAM_SHARED(shared, SharedSums<A, V, STRADDLE>);
  const Tile<V, STRADDLE> tile(a.tiling, a.first_sample);
  const auto final_mean = [&](int64_t sample, int64_t index, A sum) {
    const int64_t vector = ROWS ? a.tiling.rows : a.tiling.columns;
    const int64_t count = ROWS ? a.tiling.columns : a.tiling.rows;
    store_result<T>(a.means, sample * vector + index, sum / static_cast<A>(count));
  };
  ColumnSums<T, V> column_sums;
  const int step = a.tiling.group_rows;
  Walk<T> from = tile.template walk<T>(a.x, a.tiling);
  int buffer = 0;
#pragma unroll 1
  for (int batch = 0; batch < tile.rows; batch += kUnroll * step) {
    Pack<T, V> packs[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (tile.has(batch + u * step)) packs[u] = from.template load<V>(u);
    }
    from.advance(U);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      A first_sum = 0, second_sum = 0;
      if (tile.has(batch + u * step)) {
        A x[V];
        packs[u].widen(x);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          if constexpr (ROWS) (STRADDLE && i >= tile.in_row ? second_sum : first_sum) += x[i];
          if constexpr (!ROWS) column_sums.add(i, x[i]);
        }
      }
      if constexpr (ROWS) put_row(shared, buffer, u, first_sum, second_sum);
    }
    if constexpr (ROWS) {
      __syncthreads();
      add_rows(shared, buffer, tile, a.tiling, batch, [&](int64_t row, A sum) {
        emit_row(a.work, tile, a.tiling, row, sum, final_mean);
      });
      buffer ^= 1;
    } else {
      column_sums.end_batch();
    }
  }
  const Tile<V, STRADDLE> end(a.tiling, a.first_sample, opaque(blockIdx.x));
  if constexpr (ROWS) finish_rows(shared, a.work, end, a.tiling, final_mean);
  if constexpr (!ROWS) finish_columns(shared, a.work, end, a.tiling, column_sums.total(), final_mean);
}

}  // namespace

void global_avg_pool(
    const Extent& extent, Dtype dtype, bool of_rows, const Map& x, const Results& means, const Target& target,
    const Allocate& allocate) {
  const Access access = widest_access(extent, wide(dtype), element_size(dtype), x);
  for_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    constexpr size_t sum_size = sizeof(Compute<T>);
    const int64_t split_rows = of_rows ? 1 : least_split_rows(sum_size, sizeof(T), 1);
    const Tiling tiling = tile_for(extent, access, split_rows, kBlocks, target);
    const Workspace work = reserve(tiling, access.vector, sum_size, of_rows, !of_rows, allocate, target);
    const PoolArguments arguments{tiling, 0, x, means, work};
    for_access<T>(access, [&](auto vector, auto straddle) {
      launch(
          of_rows ? global_avg_pool_kernel<T, vector.value, straddle.value, true>
                  : global_avg_pool_kernel<T, vector.value, straddle.value, false>,
          arguments, target);
    });
  });
}

const Listed listed([](std::vector<Instance>& to) {
  for_instances([&](auto type, auto vector, auto straddle, const std::string& name) {
    using T = typename decltype(type)::type;
    const auto rows = global_avg_pool_kernel<T, vector.value, straddle.value, true>;
    const auto columns = global_avg_pool_kernel<T, vector.value, straddle.value, false>;
    to.push_back({"global_avg_pool " + name + " of rows", reinterpret_cast<const void*>(rows)});
    to.push_back({"global_avg_pool " + name + " of columns", reinterpret_cast<const void*>(columns)});
  });
});

}  // namespace bam_fused::cuda
