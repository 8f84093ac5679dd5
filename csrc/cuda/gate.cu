// gate: out = x + x * sigmoid(combine(row, column)), in one pass over x.
#include "../operations/gate.h"

#include "core/instances.h"
#include "core/sigmoid.cuh"
#include "streaming/launch.h"
#include "streaming/tile.cuh"

namespace bam_fused {
namespace cuda {
namespace {

// Blocks resident on a multiprocessor: 40 registers, 64 across rows; 2 loads of 16 bytes per thread: 48 KB in flight
template <bool STRADDLE>
constexpr int kBlocks = STRADDLE ? 4 : 6;

struct GateArguments {
  Tiling tiling;
  int64_t first_sample;
  Course x, out;
  LogitCourse row, column;
};

/// Loads of x in flight per thread.
template <typename T, int V>
constexpr int kFlight = sizeof(T) * V < 8 ? 4 : 2;

template <typename T, int V, bool STRADDLE, Combine C>
__global__ void __launch_bounds__(kThreads, kBlocks<STRADDLE>) gate_kernel(const GateArguments a) {
  using A = Compute<T>;
  constexpr int U = kFlight<T, V>;
  const Tile<V, STRADDLE> tile(a.tiling, a.first_sample);
  RawColumns<T, V> column;
  tile.template load_columns<T>(a.column, a.tiling.columns, column);
  Walk<T> from = tile.template walk<T>(a.x);
  Walk<T> to = tile.template walk<T>(a.out);
  LogitWalk<T, STRADDLE> rows = tile.template walk_rows<T>(a.row);
  Pack<T, V> packs[U];
  RawLogit<T> first[U], second[U];
  int left = tile.own_groups(a.tiling, tile.groups(a.tiling));
  const auto load = [&](int left) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= left) continue;
      packs[u] = from.template load<V>(u);
      rows.load(u, first[u], second[u]);
    }
    from.advance(U);
    rows.advance(U);
  };
  load(left);
  column.widen(a.column.float32, a.column.wide);  // they have arrived behind the first loads of x
  scale_columns<C>(column);
  for (; left > 0; left -= U) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= left) continue;
      const A row = scale_row<T, C>(widen_logit<T>(first[u], a.row.float32));
      const A next_row = STRADDLE ? scale_row<T, C>(widen_logit<T>(second[u], a.row.float32)) : row;
      A x[V];
      packs[u].widen(x);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const A logit = tile.straddles(i) ? next_row : row;
        x[i] = x[i] + x[i] * sigmoid<T>(combine<T, C>(logit, column[i]));
      }
      packs[u].narrow(x);
      to.template store<V>(u, packs[u]);
    }
    to.advance(U);
    load(left - U);
  }
}

const Listed listed([](std::vector<Instance>& to) {
  for_instances([&](auto type, auto vector, auto straddle, const std::string& name) {
    using T = typename decltype(type)::type;
    for_combines([&](auto combine, const char* text) {
      const auto kernel = gate_kernel<T, vector.value, straddle.value, combine.value>;
      to.push_back({"gate " + name + " " + text, reinterpret_cast<const void*>(kernel), 0});
    });
  });
});

}  // namespace
}  // namespace cuda

void launch(const GateCall& call, const Target& target) {
  using namespace cuda;
  constexpr int maps = 2;
  const int size = element_size(call.dtype);
  const Access access = widest_access(call.extent, wide(call.dtype), size, call.x, call.out);
  for_dtype(call.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    for_access<T>(access, [&](auto vector, auto straddle) {
      for_combine(call.combine, [&](auto c) {
        const auto kernel = gate_kernel<T, vector.value, straddle.value, c.value>;
        const Work work{access, size * access.vector, maps, kFlight<T, vector.value>, 0, false, false};
        const Tiling t = fit(reinterpret_cast<const void*>(kernel), call.extent, work, target, [](int) { return 0; });
        launch(
            kernel,
            GateArguments{
                t, 0, course(call.x, t, size), course(call.out, t, size), course(call.row, t, access, size),
                course(call.column, t, access, size)},
            target);
      });
    });
  });
}

}  // namespace bam_fused
