// What the kernels for the gradients of BAM's layers are called with; features and weights as in layer_arguments.h.
#pragma once

#include "../shared/combine.h"
#include "../shared/layout.h"
#include "layer_arguments.h"
#include "tiling.h"

namespace bam_fused::cpu {

// The gradient of x behind a squeeze, and behind the gate that follows it where `grad` is there.
struct SqueezeInputGradArguments {
  Tiling tiling;
  int64_t channels, reduced;
  bool rows_are_channels;
  Map dx;
  // left * right, summed over the reduced channels: [rows, reduced] * [reduced, columns]. One of them is the weight, the same
  // for all samples, the other the gradient of the reduced map.
  const void *left, *right;
  int64_t left_sample, right_sample;  // from sample to sample, 0 for the weight
  const void* pooled_grad;            // [samples, channels], already divided by the number of positions
  Combine combine;
  Map grad;
  const void *row_logits, *column_logits;
};

// The gradient of a squeeze's weight. A split is a run of tiles of positions over all samples.
struct SqueezeWeightGradArguments {
  int64_t samples, channels, positions, reduced;
  int64_t tile_positions, tile_channels, splits;
  bool rows_are_channels;
  Map x;
  const void*
      reduced_grad;  // [samples, reduced, positions] where rows are channels, else [samples, positions, reduced]
  void* partials;    // [channels, splits, reduced] where rows are channels, else [reduced, splits, channels]
};

// The gradient of a dilated convolution's weight. A strip is a few rows of the map, a split a run of strips over all samples.
struct DilatedConvWeightGradArguments {
  int64_t samples, height, width, inputs, outputs, dilation;
  int64_t strip_rows, splits;
  PerSample in, grad;  // features; grad's channels are the outputs
  void* partials;      // [9 taps, outputs, splits, inputs]
};

constexpr int64_t kMaxReduced = 512;  // reduced channels behind a squeeze
constexpr int64_t kMaxReducedTile =
    24576;  // numbers of the reduced gradient that a tile needs, with what pads its rows
constexpr int64_t kMaxInputGradColumns = 512;  // of squeeze_input_grad: a tile's products stay in the cache
constexpr int64_t kMaxTilePositions = 128;     // of squeeze_weight_grad: the length of its sums in registers

}  // namespace bam_fused::cpu
