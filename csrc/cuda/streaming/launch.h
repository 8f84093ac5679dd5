// Launching a walk over feature maps: one block per (sample, split, slab), in as many launches as the grid's limit asks
// for (one, but for millions of samples), and the choice of a kernel's instance by access.
#pragma once

#include <algorithm>
#include <string>

#include "../core/element.cuh"
#include "../core/launch.h"
#include "fit.h"

namespace bam_fused::cuda {

inline std::string describe(const Tiling& t) {
  return "launch of " + std::to_string(t.samples * t.blocks_per_sample()) + " blocks for " + std::to_string(t.samples) +
         " samples of " + std::to_string(t.rows) + " x " + std::to_string(t.columns);
}

/// Arguments are a struct with a `tiling` and a `first_sample`, which is set here.
template <typename Arguments>
void launch(void (*kernel)(Arguments), Arguments arguments, const Target& target, int shared_bytes = 0) {
  const Tiling& t = arguments.tiling;
  const int64_t most = std::max<int64_t>(1, INT32_MAX / t.blocks_per_sample());
  for (int64_t first = 0; first < t.samples; first += most) {
    arguments.first_sample = first;
    const int64_t blocks = std::min(most, t.samples - first) * t.blocks_per_sample();
    const cudaError_t error = launch_blocks(kernel, arguments, blocks, t.threads, shared_bytes, target.stream);
    if (error != cudaSuccess) check(error, describe(t));
  }
}

/// f(width, straddle) for an access to elements of T.
template <typename T, typename F>
void for_access(Access access, F&& f) {
  if constexpr (kWide<T> > 1) {
    if (access.vector > 1) {
      return access.straddle ? f(Constant<kWide<T>>{}, Constant<true>{}) : f(Constant<kWide<T>>{}, Constant<false>{});
    }
  }
  f(Constant<1>{}, Constant<false>{});
}

/// f(type, vector, straddle, name) for every dtype and access.
template <typename F>
void for_instances(F&& f) {
  for_dtypes([&](auto type, const std::string& name) {
    using T = typename decltype(type)::type;
    f(type, Constant<1>{}, Constant<false>{}, name + " element");
    if constexpr (kWide<T> > 1) {
      f(type, Constant<kWide<T>>{}, Constant<false>{}, name + " 16 bytes");
      f(type, Constant<kWide<T>>{}, Constant<true>{}, name + " 16 bytes across rows");
    }
  });
}

inline int wide(Dtype dtype) { return dtype == Dtype::float64 ? 1 : 16 / element_size(dtype); }

}  // namespace bam_fused::cuda
