// gate: out = x + x * sigmoid(combine(row, column)), in one pass over x.
#include "core/instances.h"
#include "core/sigmoid.cuh"
#include "kernels.h"
#include "streaming/launch.h"
#include "streaming/tile.cuh"

namespace bam_fused::cuda {
namespace {

// Blocks resident on a multiprocessor: 64 registers; 4 loads of 16 bytes per thread: 64 KB in flight
constexpr int kBlocks = 4;

struct GateArguments {
  Tiling tiling;
  int64_t first_sample;
  Map x, out;
  Logits row, column;
};

template <typename T, int V, bool STRADDLE, Combine C>
__global__ void __launch_bounds__(kThreads, kBlocks) gate_kernel(const GateArguments a) {
  using A = Compute<T>;
  constexpr int U = sizeof(T) * V < 8 ? 8 : 4;  // loads in flight per thread
  const Tile<V, STRADDLE> tile(a.tiling, a.first_sample);
  A column[V];
  tile.template load_columns<T>(a.column, a.tiling.columns, column);
  const int step = a.tiling.group_rows;
  Walk<T> from = tile.template walk<T>(a.x, a.tiling);
  Walk<T> to = tile.template walk<T>(a.out, a.tiling);
  for (int group = 0; tile.has(group); group += U * step) {
    Pack<T, V> packs[U];
    RawLogit<T> first[U], second[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (!tile.has(group + u * step)) continue;
      packs[u] = from.template load<V>(u);
      tile.template load_rows<T>(a.row, group + u * step, first[u], second[u]);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (!tile.has(group + u * step)) continue;
      const A row = widen_logit<T>(first[u], a.row.float32);
      const A next_row = STRADDLE ? widen_logit<T>(second[u], a.row.float32) : row;
      A x[V];
      packs[u].widen(x);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const A logit = STRADDLE && i >= tile.in_row ? next_row : row;
        x[i] = x[i] + x[i] * sigmoid<T>(combine<C>(logit, column[i]));
      }
      packs[u].narrow(x);
      to.template store<V>(u, packs[u]);
    }
    from.advance(U);
    to.advance(U);
  }
}

}  // namespace

void gate(
    const Extent& extent, Dtype dtype, Combine combine, const Map& x, const Logits& row, const Logits& column,
    const Map& out, const Target& target) {
  const Access access = widest_access(extent, wide(dtype), element_size(dtype), x, out);
  const Tiling tiling = tile_for(extent, access, 1, kBlocks, target);
  const GateArguments arguments{tiling, 0, x, out, row, column};
  for_dtype(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    for_access<T>(access, [&](auto vector, auto straddle) {
      for_combine(
          combine, [&](auto c) { launch(gate_kernel<T, vector.value, straddle.value, c.value>, arguments, target); });
    });
  });
}

const Listed listed([](std::vector<Instance>& to) {
  for_instances([&](auto type, auto vector, auto straddle, const std::string& name) {
    using T = typename decltype(type)::type;
    for_combines([&](auto combine, const char* text) {
      const auto kernel = gate_kernel<T, vector.value, straddle.value, combine.value>;
      to.push_back({"gate " + name + " " + text, reinterpret_cast<const void*>(kernel)});
    });
  });
});

}  // namespace bam_fused::cuda
