// gate_backward: dx = grad * (1 + s) and, with t = grad * x * s * (1 - s), the sums of t over rows and over columns
// that are the gradients of the logits; one pass over grad and x.
#include "../operations/gate.h"

#include "core/instances.h"
#include "core/sigmoid.cuh"
#include "streaming/workspace.h"

namespace bam_fused {
namespace cuda {
namespace {

// Blocks resident on a multiprocessor: 64 registers; 2 loads of 16 bytes per thread: 32 KB in flight
constexpr int kBlocks = 4;

struct GateBackwardArguments {
  Tiling tiling;
  int64_t first_sample;
  Course grad, x, dx;
  LogitCourse row, column;
  Results drow, dcolumn;
  Workspace work;
};

/// Pairs of loads in flight per thread.
template <int V>
constexpr int kFlight = V == 1 ? 4 : 1;

// What would spill takes more registers: float32 across rows, and before sm_90 all, where fewer bytes in flight suffice
// (16 KB on A100).
template <typename T, bool STRADDLE, Combine C>
constexpr int resident_blocks() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  return sizeof(T) == 4 && STRADDLE ? 3 : kBlocks;
#elif __CUDA_ARCH__ >= 800
  return STRADDLE || C == Combine::max ? 2 : 3;
#else
  return 2;
#endif
}

template <typename T, int V, bool STRADDLE, Combine C>
__global__ void __launch_bounds__(kThreads, resident_blocks<T, STRADDLE, C>())
    gate_backward_kernel(const GateBackwardArguments a) {
  using A = Compute<T>;
  constexpr int U = kFlight<V>;
  const SharedSums<A, V, STRADDLE> shared;
  const auto final_row = [&](int64_t sample, int64_t row, A sum) {
    store_result<T>(a.drow, sample * a.tiling.rows + row, sum);
  };
  const auto final_column = [&](int64_t sample, int64_t column, A sum) {
    store_result<T>(a.dcolumn, sample * a.tiling.columns + column, C == Combine::product ? sum * (1 / kScale<T>) : sum);
  };
  const Tile<V, STRADDLE> tile(a.tiling, a.first_sample, opaque(blockIdx.x));
  RawColumns<T, V> column;
  tile.template load_columns<T>(a.column, a.tiling.columns, column);
  ColumnSums<T, V> column_sums;
  Walk<T> from_grad = tile.template walk<T>(a.grad);
  Walk<T> from_x = tile.template walk<T>(a.x);
  Walk<T> to_dx = tile.template walk<T>(a.dx);
  LogitWalk<T, STRADDLE> rows = tile.template walk_rows<T>(a.row);
  Pack<T, V> grads[U], packs[U];
  RawLogit<T> first[U] = {}, second[U] = {};
  const int groups = tile.groups(a.tiling), own_groups = tile.own_groups(a.tiling, groups);
  const auto load = [&](int left) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= left) continue;
      grads[u] = from_grad.template load<V>(u);
      packs[u] = from_x.template load<V>(u);
      rows.load(u, first[u], second[u]);
    }
    from_grad.advance(U);
    from_x.advance(U);
    rows.advance(U);
  };
  load(own_groups);
  column.widen(a.column.float32, a.column.wide);  // they have arrived behind the first loads of x
  scale_columns<C>(column);
  for (int g = 0; g < groups; g += kBatch) {
#pragma unroll 1
    for (int b = 0; b < kBatch && g + b < groups; b += U) {
      const int left = own_groups - g - b;
#pragma unroll
      for (int u = 0; u < U; ++u) {
        A first_sum = 0, second_sum = 0;
        if (u < left) {
          const A row = scale_row<T, C>(widen_logit<T>(first[u], a.row.float32));
          const A next_row = STRADDLE ? scale_row<T, C>(widen_logit<T>(second[u], a.row.float32)) : row;
          A grad[V], x[V];
          grads[u].widen(grad);
          packs[u].widen(x);
#pragma unroll
          for (int i = 0; i < V; ++i) {
            const bool straddles = tile.straddles(i);
            const A logit = straddles ? next_row : row;
            A s, ds;
            sigmoid<T>(combine<T, C>(logit, column[i]), s, ds);
            const auto to_row = [&](A t, bool counts) {
              if constexpr (STRADDLE) {  // chosen, not branched over: which sum it is for is a second condition
                (straddles ? second_sum : first_sum) += counts ? t : A(0);
              } else if (counts) {
                first_sum += t;
              }
            };
            const auto to_column = [&](A t) { column_sums[i] += t; };
            share<C>(grad[i] * x[i] * ds, logit, column[i], to_row, to_column);
            grad[i] = grad[i] * (A(1) + s);  // grad + grad * s, fused, is NaN for an infinite grad where s is 0
          }
          grads[u].narrow(grad);
          if (a.dx.data) to_dx.template store<V>(u, grads[u]);
        }
        put_row(shared, b + u, first_sum, second_sum);
      }
      to_dx.advance(U);
      load(left - U);
    }
    column_sums.end_batch(kBatch);
    add_rows(shared, tile, a.tiling, g * a.tiling.group_rows, [&](int64_t row, A sum) {
      emit_row(a.work, tile, a.tiling, row, sum, final_row);
    });
  }
  const Tile<V, STRADDLE> end(a.tiling, a.first_sample, opaque(blockIdx.x));
  emit_columns(shared, a.work, end, a.tiling, column_sums.total(), final_column);
  finish<true, true>(shared, a.work, end, a.tiling, final_row, final_column);
}

const Listed listed([](std::vector<Instance>& to) {
  for_instances([&](auto type, auto vector, auto straddle, const std::string& name) {
    using T = typename decltype(type)::type;
    for_combines([&](auto combine, const char* text) {
      const auto kernel = gate_backward_kernel<T, vector.value, straddle.value, combine.value>;
      const int shared = shared_bytes({vector.value, straddle.value}, sizeof(Compute<T>), true, true, kThreads);
      to.push_back({"gate_backward " + name + " " + text, reinterpret_cast<const void*>(kernel), shared});
    });
  });
});

}  // namespace
}  // namespace cuda

void launch(const GateBackwardCall& call, const Target& target) {
  using namespace cuda;
  const int maps = call.dx.data ? 3 : 2;
  const Extent& extent = call.extent;
  const int size = element_size(call.dtype);
  const Map dx = call.dx.data ? call.dx : Map{nullptr, call.x.strides};  // nobody asks for it, nothing writes it
  const Access access = call.uniform_grad ? widest_access(extent, wide(call.dtype), size, call.x, dx)
                                          : widest_access(extent, wide(call.dtype), size, call.grad, call.x, dx);
  for_dtype(call.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    constexpr int sum_size = sizeof(Compute<T>);
    const auto shared = [&](int threads) { return shared_bytes(access, sum_size, true, true, threads); };
    for_access<T>(access, [&](auto vector, auto straddle) {
      for_combine(call.combine, [&](auto c) {
        const auto kernel = gate_backward_kernel<T, vector.value, straddle.value, c.value>;
        const Work work{access, size * access.vector, maps, kFlight<vector.value>, sum_size, true, true};
        const Tiling t = fit(reinterpret_cast<const void*>(kernel), extent, work, target, shared);
        launch(
            kernel,
            GateBackwardArguments{
                t, 0, course(call.grad, t, size, call.uniform_grad), course(call.x, t, size), course(dx, t, size),
                course(call.row, t, access, size), course(call.column, t, access, size), call.drow, call.dcolumn,
                reserve(t, work, target)},
            target, shared(t.threads));
      });
    });
  });
}

}  // namespace bam_fused
