// What squeeze is given.
#pragma once

#include "../../shared/layout.h"
#include "kernel.h"
#include "layer.h"

namespace bam_fused::cpu {

struct SqueezeArguments {
  static const ForDtypes<SqueezeArguments> baseline, avx2, avx512, avx512_bf16;

  int64_t channels, positions, outputs;
  int64_t width, pooled_width;    // of the map; of each of its rows, as much is pooled
  int64_t tile_positions, tiles;  // a tile's size, and how many there are per sample
  int64_t group_outputs, groups;  // each tile's outputs are cut into groups, of which the first one also pools
  bool rows_are_channels;
  Map x;
  PackedWeight weight;
  Finish finish;
  PerSample pool_partials;  // [tiles, channels]
  Map reduced;              // in x's dtype, with x's rows; its data may be null
  PerSample features;       // likewise
  // Where features that are finished go instead, if not null, as numbers that are factors.
  PerSample rounded;
  int64_t rounded_row;

  int64_t parts() const { return tiles * groups; }  // of a sample
};

constexpr int64_t kMostTilePositions = 96;  // of squeeze
// Factors of each position that are multiplied at a time, in a tile as many as have these bytes: the L1 cache holds
// them and the next ones. Where a block of them can be whole or half, a cut of all channels between multiples of it
// changes no sum.
constexpr int64_t kBlockDepth = 64, kHalfBlockDepth = kBlockDepth / 2, kSqueezeBlockBytes = 12288;
constexpr int64_t kMaxReduced = 512;  // reduced channels behind a squeeze
// Numbers of the reduced gradient that a tile needs, with what pads its rows.
constexpr int64_t kMaxReducedTile = 24576;

}  // namespace bam_fused::cpu
