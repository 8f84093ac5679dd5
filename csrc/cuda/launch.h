// Launching: one block per (sample, chunk, slab), in as many launches as the grid's limit asks for (one, but for
// millions of samples), and the choice of a kernel's instance by dtype and access.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <string>
#include <utility>

#include "check.h"
#include "element.cuh"
#include "tiling.h"

namespace bam_fused::cuda {

inline std::string describe(const Tiling& t) {
  return "launch of " + std::to_string(t.samples * t.blocks_per_sample()) + " blocks for " + std::to_string(t.samples) +
         " matrices of " + std::to_string(t.rows) + " x " + std::to_string(t.columns);
}

/// Arguments are a struct with a `tiling` and a `first_sample`, which is set here.
template <typename Arguments>
void launch(void (*kernel)(Arguments), Arguments arguments, const Target& target) {
  const Tiling& t = arguments.tiling;
  const int64_t most = std::max<int64_t>(1, INT32_MAX / t.blocks_per_sample());
  for (int64_t first = 0; first < t.samples; first += most) {
    arguments.first_sample = first;
    cudaLaunchConfig_t config = {};
    config.gridDim.x = static_cast<unsigned>(std::min(most, t.samples - first) * t.blocks_per_sample());
    config.blockDim.x = static_cast<unsigned>(t.threads);
    config.stream = target.stream;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments);
    if (error != cudaSuccess) check(error, describe(t));
  }
}

/// A type and a constant as values, so that a generic lambda can be called with them.
template <typename T>
struct Type {
  using type = T;
};

template <auto VALUE>
struct Constant {
  static constexpr auto value = VALUE;
};

template <typename F>
void for_dtype(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::float64: return f(Type<double>{});
    case Dtype::float32: return f(Type<float>{});
    case Dtype::bfloat16: return f(Type<__nv_bfloat16>{});
    case Dtype::float16: return f(Type<__half>{});
  }
}

template <typename F>
void for_combine(Combine combine, F&& f) {
  switch (combine) {
    case Combine::sum: return f(Constant<Combine::sum>{});
    case Combine::product: return f(Constant<Combine::product>{});
    case Combine::max: return f(Constant<Combine::max>{});
  }
}

constexpr std::pair<Combine, const char*> kCombines[] = {
    {Combine::sum, "sum"}, {Combine::product, "product"}, {Combine::max, "max"}};

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
  const std::pair<Dtype, const char*> dtypes[] = {
      {Dtype::float64, "float64"}, {Dtype::float32, "float32"}, {Dtype::bfloat16, "bfloat16"}, {Dtype::float16, "float16"}};
  for (const auto& [dtype, name] : dtypes) {
    for_dtype(dtype, [&, name = std::string(name)](auto type) {
      using T = typename decltype(type)::type;
      const auto named = [&](const char* access) {
        return [&f, type, full = name + " " + access](auto vector, auto straddle) { f(type, vector, straddle, full); };
      };
      for_access<T>({1, false}, named("element"));
      if constexpr (kWide<T> > 1) {
        for_access<T>({kWide<T>, false}, named("16 bytes"));
        for_access<T>({kWide<T>, true}, named("16 bytes across rows"));
      }
    });
  }
}

inline int element_size(Dtype dtype) { return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2; }

inline int wide(Dtype dtype) { return dtype == Dtype::float64 ? 1 : 16 / element_size(dtype); }

}  // namespace bam_fused::cuda
