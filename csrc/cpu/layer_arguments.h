// What the kernels of BAM's layers are given.
//
// Weights are packed as [taps, inputs, outputs] and the spatial branch's features as [positions, channels], both in the compute
// type, the last dimension padded with zeros to whole vectors. `Finish` arrays are padded likewise.
#pragma once

#include <stdint.h>

#include "../shared/layout.h"

namespace bam_fused {
namespace cpu {

// Where something is kept for each sample, from a multiple of 64 bytes on.
struct PerSample {
  void* data;
  int64_t sample_bytes, offset;

  void* at(int64_t sample) const {
    const uintptr_t begin = (uintptr_t)data + (uintptr_t)(sample * sample_bytes);
    return (void*)((begin + 63) / 64 * 64 + (uintptr_t)offset);
  }
};

// What follows a layer's sums: sum * scale + shift, per output, which is bias and norm in one; then ReLU, if wanted.
struct Finish {
  const void* scale;
  const void* shift;
  bool relu;
};

struct PackArguments {
  const void* weight;  // [outputs, inputs, taps]
  void* packed;
  int64_t outputs, inputs, taps;
};

struct SqueezeArguments {
  int64_t channels, positions, outputs;
  int64_t width, pooled_width;    // of the map; of each of its rows, as much is pooled
  int64_t tile_positions, tiles;  // a tile's size, and how many there are per sample
  bool rows_are_channels;
  Map x;
  const void* weight;  // packed
  Finish finish;
  void* pool_partials;  // [samples, tiles, channels]
  Map reduced;          // in x's dtype, with x's rows; its data may be null
  PerSample features;   // likewise
};

struct DilatedConvArguments {
  int64_t height, width, inputs, outputs, dilation;
  int64_t part_rows, parts;  // rows of the map in a part, and how many parts there are per sample
  const void* weight;        // packed, taps in the order of the kernel's rows
  Finish finish;
  PerSample in, out;  // features
};

struct ChannelLayerArguments {
  int64_t inputs, outputs;
  int64_t part_outputs, parts;  // outputs in a part, and how many parts there are per sample
  const void* weight;           // [outputs, inputs]
  Finish finish;
  const void* in;  // [samples, inputs]
  void* out;       // [samples, outputs]
};

struct SpatialLogitsArguments {
  int64_t positions, inputs;
  int64_t part_positions, parts;
  const void* weight;  // one row, padded
  Finish finish;
  PerSample in;  // features
  void* out;     // [samples, positions]
};

constexpr int64_t kMostTilePositions = 96;  // of squeeze

}  // namespace cpu
}  // namespace bam_fused
