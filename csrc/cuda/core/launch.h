// Launching blocks, and the choice of a kernel's instance by dtype and combine.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <string>
#include <utility>

#include "../../shared/combine.h"
#include "../../shared/dtype.h"
#include "check.h"

namespace bam_fused::cuda {

template <typename Arguments>
cudaError_t launch_blocks(
    void (*kernel)(Arguments), const Arguments& arguments, int64_t blocks, int threads, int shared_bytes,
    cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim.x = static_cast<unsigned>(blocks);
  config.blockDim.x = static_cast<unsigned>(threads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments);
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

/// f(type, name) for every dtype.
template <typename F>
void for_dtypes(F&& f) {
  f(Type<double>{}, std::string("float64"));
  f(Type<float>{}, std::string("float32"));
  f(Type<__nv_bfloat16>{}, std::string("bfloat16"));
  f(Type<__half>{}, std::string("float16"));
}

template <typename F>
void for_combine(Combine combine, F&& f) {
  switch (combine) {
    case Combine::sum: return f(Constant<Combine::sum>{});
    case Combine::product: return f(Constant<Combine::product>{});
    case Combine::max: return f(Constant<Combine::max>{});
  }
}

/// f(combine, name) for every way to combine.
template <typename F>
void for_combines(F&& f) {
  f(Constant<Combine::sum>{}, "sum");
  f(Constant<Combine::product>{}, "product");
  f(Constant<Combine::max>{}, "max");
}

inline int element_size(Dtype dtype) { return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2; }

}  // namespace bam_fused::cuda
