// gate_backward: dx = grad * (1 + s) and, with t = grad * x * s * (1 - s), the sums of t over rows and over columns that
// are the gradients of the logits; one pass over grad and x.
#include "core/instances.h"
#include "core/sigmoid.cuh"
#include "kernels.h"
#include "streaming/workspace.h"

namespace bam_fused::cuda {
namespace {

// Blocks resident on a multiprocessor: 80 registers; 4 loads of 16 bytes per thread: 48 KB in flight
constexpr int kBlocks = 3;

struct GateBackwardArguments {
  Tiling tiling;
  int64_t first_sample;
  Map grad, x, dx;
  Logits row, column;
  Results drow, dcolumn;
  Workspace work;
};

// Before sm_90 fewer bytes in flight suffice (16 KB on A100); what needs more registers takes them there instead of spilling.
template <bool STRADDLE, Combine C>
constexpr int resident_blocks() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  return STRADDLE || C == Combine::max ? 2 : kBlocks;
#else
  return kBlocks;
#endif
}

template <typename T, int V, bool STRADDLE, Combine C>
__global__ void __launch_bounds__(kThreads, resident_blocks<STRADDLE, C>())
    gate_backward_kernel(const GateBackwardArguments a) {
  using A = Compute<T>;
  constexpr int U = V == 1 ? 4 : 2;  // pairs of loads in flight per thread
  BAM_SHARED(shared, SharedSums<A, V, STRADDLE>);
  const Tile<V, STRADDLE> tile(a.tiling, a.first_sample);
  const auto final_row = [&](int64_t sample, int64_t row, A sum) {
    store_result<T>(a.drow, sample * a.tiling.rows + row, sum);
  };
  const auto final_column = [&](int64_t sample, int64_t column, A sum) {
    store_result<T>(a.dcolumn, sample * a.tiling.columns + column, sum);
  };
  A column[V];
  tile.template load_columns<T>(a.column, a.tiling.columns, column);
  ColumnSums<T, V> column_sums;
  const int step = a.tiling.group_rows;
  Walk<T> from_grad = tile.template walk<T>(a.grad, a.tiling);
  Walk<T> from_x = tile.template walk<T>(a.x, a.tiling);
  Walk<T> to_dx = tile.template walk<T>(a.dx, a.tiling);
  for (int g = 0; g * step < tile.rows; g += kUnroll) {
#pragma unroll 1
    for (int b = 0; b < kUnroll; b += U) {
      Pack<T, V> grads[U], packs[U];
      RawLogit<T> first[U], second[U];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const int group = (g + b + u) * step;
        if (!tile.has(group)) continue;
        grads[u] = from_grad.template load<V>(u);
        packs[u] = from_x.template load<V>(u);
        tile.template load_rows<T>(a.row, group, first[u], second[u]);
      }
#pragma unroll
      for (int u = 0; u < U; ++u) {
        A first_sum = 0, second_sum = 0;
        if (tile.has((g + b + u) * step)) {
          const A row = widen_logit<T>(first[u], a.row.float32);
          const A next_row = STRADDLE ? widen_logit<T>(second[u], a.row.float32) : row;
          A grad[V], x[V];
          grads[u].widen(grad);
          packs[u].widen(x);
#pragma unroll
          for (int i = 0; i < V; ++i) {
            const bool straddles = STRADDLE && i >= tile.in_row;
            const A logit = straddles ? next_row : row;
            A s, ds, to_row, to_column;
            sigmoid<T>(combine<C>(logit, column[i]), s, ds);
            share<C>(grad[i] * x[i] * ds, logit, column[i], to_row, to_column);
            grad[i] = grad[i] * (A(1) + s);
            column_sums.add(i, to_column);
            (straddles ? second_sum : first_sum) += to_row;
          }
          grads[u].narrow(grad);
          to_dx.template store<V>(u, grads[u]);
        }
        put_row(shared, g / kUnroll % 2, b + u, first_sum, second_sum);
      }
      from_grad.advance(U);
      from_x.advance(U);
      to_dx.advance(U);
    }
    column_sums.end_batch();
    __syncthreads();
    add_rows(shared, g / kUnroll % 2, tile, a.tiling, g * step, [&](int64_t row, A sum) {
      emit_row(a.work, tile, a.tiling, row, sum, final_row);
    });
  }
  const Tile<V, STRADDLE> end(a.tiling, a.first_sample, opaque(blockIdx.x));
  finish_rows(shared, a.work, end, a.tiling, final_row);
  finish_columns(shared, a.work, end, a.tiling, column_sums.total(), final_column);
}

}  // namespace

void gate_backward(
    const Extent& extent, Dtype dtype, Combine combine, const Map& grad, const Map& x, const Logits& row,
    const Logits& column, const Map& dx, const Results& drow, const Results& dcolumn, const Target& target,
    const Allocate& allocate) {
  const Access access = widest_access(extent, wide(dtype), element_size(dtype), grad, x, dx);
  for_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    constexpr size_t sum_size = sizeof(Compute<T>);
    const Tiling tiling = tile_for(extent, access, least_split_rows(sum_size, sizeof(T), 3), kBlocks, target);
    const Workspace work = reserve(tiling, access.vector, sum_size, true, true, allocate, target);
    const GateBackwardArguments arguments{tiling, 0, grad, x, dx, row, column, drow, dcolumn, work};
    for_access<T>(access, [&](auto vector, auto straddle) {
      for_combine(combine, [&](auto c) {
        launch(gate_backward_kernel<T, vector.value, straddle.value, c.value>, arguments, target);
      });
    });
  });
}

const Listed listed([](std::vector<Instance>& to) {
  for_instances([&](auto type, auto vector, auto straddle, const std::string& name) {
    using T = typename decltype(type)::type;
    for_combines([&](auto combine, const char* text) {
      const auto kernel = gate_backward_kernel<T, vector.value, straddle.value, combine.value>;
      to.push_back({"gate_backward " + name + " " + text, reinterpret_cast<const void*>(kernel)});
    });
  });
});

}  // namespace bam_fused::cuda
