// global_avg_pool: the means of the rows (NCHW) or of the columns (NHWC) of each sample, in one pass over x.
#include "../operations/global_avg_pool.h"

#include "core/instances.h"
#include "streaming/workspace.h"

namespace bam_fused {
namespace cuda {
namespace {

// Blocks resident on a multiprocessor: 80 registers; 4 loads of 16 bytes per thread: 48 KB in flight
constexpr int kBlocks = 3;

// Loads in flight per thread.
constexpr int kFlight = 4;

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
  const int step = a.tiling.group_rows;
  const int together = ROWS ? a.tiling.run : 1;  // splits matter to the sums of columns alone
  for (int split = 0; split < a.tiling.run; split += together) {
    const Tile<V, STRADDLE> tile(a.tiling, a.first_sample, split, together, opaque(blockIdx.x));
    if (tile.rows <= 0) break;
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
        add_rows(shared, tile, a.tiling, g * step, [&](int64_t row, A sum) {
          emit_row(a.work, tile, a.tiling, row, sum, final_mean);
        });
      }
    } else {
#pragma unroll 1
      for (int g = 0; g < groups; g += U) add(g, 0), column_sums.end_batch(U);
      const Tile<V, STRADDLE> end(a.tiling, a.first_sample, split, 1, opaque(blockIdx.x));
      emit_columns(shared, a.work, end, a.tiling, column_sums.total(), final_mean);
    }
  }
  const Tile<V, STRADDLE> end(a.tiling, a.first_sample, 0, a.tiling.run, opaque(blockIdx.x));
  finish<ROWS, !ROWS>(shared, a.work, end, a.tiling, final_mean, final_mean);
}

const Listed listed([](std::vector<Instance>& to) {
  for_instances([&](auto type, auto vector, auto straddle, const std::string& name) {
    using T = typename decltype(type)::type;
    const auto rows = global_avg_pool_kernel<T, vector.value, straddle.value, true>;
    const auto columns = global_avg_pool_kernel<T, vector.value, straddle.value, false>;
    const auto shared = [&](bool of_rows) {
      return shared_bytes({vector.value, straddle.value}, sizeof(Compute<T>), of_rows, !of_rows, kThreads);
    };
    to.push_back({"global_avg_pool " + name + " of rows", reinterpret_cast<const void*>(rows), shared(true)});
    to.push_back({"global_avg_pool " + name + " of columns", reinterpret_cast<const void*>(columns), shared(false)});
  });
});

}  // namespace
}  // namespace cuda

void launch(const PoolCall& call, const Target& target) {
  using namespace cuda;
  constexpr int maps = 1;
  const bool of_rows = call.of_rows;
  const int size = element_size(call.dtype);
  const Access access = widest_access(call.extent, wide(call.dtype), size, call.x);
  for_dtype(call.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    constexpr int sum_size = sizeof(Compute<T>);
    const auto shared = [&](int threads) { return shared_bytes(access, sum_size, of_rows, !of_rows, threads); };
    for_access<T>(access, [&](auto vector, auto straddle) {
      const auto kernel = of_rows ? global_avg_pool_kernel<T, vector.value, straddle.value, true>
                                  : global_avg_pool_kernel<T, vector.value, straddle.value, false>;
      const Work work{access, size * access.vector, maps, kFlight, sum_size, of_rows, !of_rows};
      const Tiling t = fit(reinterpret_cast<const void*>(kernel), call.extent, work, target, shared);
      launch(
          kernel, PoolArguments{t, 0, course(call.x, t, size), call.means, reserve(t, work, target)}, target,
          shared(t.threads));
    });
  });
}

}  // namespace bam_fused
