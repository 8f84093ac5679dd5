// What the CPU operators ask of the kernels: plain structs and one table of functions per instruction set.
//
// instruction_set.cpp is compiled once per instruction set and defines one such table each time; dispatch.cpp picks one at
// run time. The kernels include no header of PyTorch or of the C++ library, so that no function compiled for AVX-512 can be
// linked into code that runs without it.
#pragma once

#include <stdint.h>

#include "../shared/combine.h"
#include "../shared/dtype.h"
#include "../shared/layout.h"
#include "layer_arguments.h"
#include "layer_grad_arguments.h"
#include "tiling.h"

namespace bam_fused {

namespace cpu {

// "Compute" below is float64 for float64 feature maps and float32 for all others.
struct GateArguments {
  Tiling tiling;
  Combine combine;
  Map x, out;
  const void* row_logits;     // compute type [samples, rows]
  const void* column_logits;  // compute type [samples, columns]
};

struct GateBackwardArguments {
  Tiling tiling;
  Combine combine;
  Map grad, x, dx;  // dx may be null: the logits' gradients alone
  const void* row_logits;
  const void* column_logits;
  void* row_partials;     // compute type [samples, column_tiles, rows]
  void* column_partials;  // compute type [samples, row_tiles, columns]
};

struct PoolArguments {
  Tiling tiling;
  Map x;
  void* row_partials;     // one of these two is null: the sums over columns, as above,
  void* column_partials;  // or the sums over rows
};

// out[sample, i] = scale * (the sum over the partials of in[sample, partial, i]), in the order of the partials
struct SumPartialsArguments {
  const void* in;  // compute type [samples, partials, length]
  void* out;       // `out_dtype` [samples, length]
  Dtype out_dtype;
  int64_t samples, partials, length;
  double scale;
};

// A kernel for each dtype; each call does the tiles (or parts, samples, inputs, tasks) begin to end, exclusive.
template <class Arguments> struct ForDtypes {
  using Kernel = void (*)(const Arguments&, int64_t begin, int64_t end);
  Kernel kernels[kDtypes];

  Kernel operator[](Dtype dtype) const { return kernels[(int)dtype]; }
};

struct Kernels {
  const char* name;
  ForDtypes<GateArguments> gate;
  ForDtypes<GateBackwardArguments> gate_backward;
  ForDtypes<PoolArguments> global_avg_pool;
  ForDtypes<SumPartialsArguments> sum_partials;  // by the dtype of x
  ForDtypes<SqueezeArguments> squeeze;
  ForDtypes<SqueezeInputGradArguments> squeeze_input_grad;
  ForDtypes<SqueezeWeightGradArguments> squeeze_weight_grad;
  ForDtypes<PackArguments> pack_weight;  // these five by the compute type alone
  ForDtypes<DilatedConvArguments> dilated_conv;
  ForDtypes<DilatedConvWeightGradArguments> dilated_conv_weight_grad;
  ForDtypes<ChannelLayerArguments> channel_layer;
  ForDtypes<SpatialLogitsArguments> spatial_logits;
  int64_t vector_bytes;
};

constexpr int64_t kMaxTileRows = 32;  // a column of a partial sum is at most this long: rounding grows with it
constexpr int64_t kMaxTileColumnBytes =
    8192;  // in the compute type: a tile's column logits, terms and sums stay in the L1 cache

}  // namespace cpu
}  // namespace bam_fused
