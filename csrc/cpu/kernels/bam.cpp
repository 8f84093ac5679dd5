// What a whole BAM needs beside squeeze, the dilated convolutions and the gate: its last layers, on vectors.
#include "bam.h"

#include "columns.h"
#include "register_block.h"

namespace bam_fused::cpu {
namespace {

template <class A> inline A finished(A sum, const Finish& finish, int64_t output) {
  const A v = sum * ((const A*)finish.scale)[output] + ((const A*)finish.shift)[output];
  return finish.relu && v < A(0) ? A(0) : v;
}

// A layer of the channel branch for some of its outputs: weight times the sample's vector.
template <class T> void channel_layer(const ChannelLayerArguments& a, int64_t begin, int64_t end) {
  using A = Compute<T>;
  for (int64_t index = begin; index < end; ++index) {
    const int64_t sample = index / a.parts, first = index % a.parts * a.part_outputs;
    const int64_t last = first + a.part_outputs < a.outputs ? first + a.part_outputs : a.outputs;
    const A* in = (const A*)a.in + sample * a.inputs;
    for (int64_t o = first; o < last; ++o) {
      const T* weight = (const T*)a.weight + o * a.inputs;
      const A sum = sum_columns<A>(a.inputs, [&](int64_t k, auto part) {
        return only_new<A>(load(weight + k, part) * load(in + k, part), part);
      });
      ((A*)a.out)[sample * a.outputs + o] = finished<A>(sum, a.finish, o);
    }
  }
}

// The last layer of the spatial branch, to one channel, at some of the positions.
template <class A> void spatial_logits(const SpatialLogitsArguments& a, int64_t begin, int64_t end) {
  const int64_t row = padded<A>(a.inputs);
  for (int64_t index = begin; index < end; ++index) {
    const int64_t sample = index / a.parts, first = index % a.parts * a.part_positions;
    const int64_t last = first + a.part_positions < a.positions ? first + a.part_positions : a.positions;
    const A* in = (const A*)a.in.at(sample);
    for (int64_t p = first; p < last; ++p) {
      Vec<A> sum{};
      for (int64_t k = 0; k < row; k += kLanes<A>) {
        sum += finished_input<A>(load(in + p * row + k), a.in_finish, k) * load((const A*)a.weight + k);
      }
      ((A*)a.out)[sample * a.positions + p] = finished<A>(sum_lanes<A>(sum), a.finish, 0);
    }
  }
}

}  // namespace

BAM_KERNEL(ChannelLayerArguments, channel_layer)
BAM_KERNEL_OF_COMPUTE_TYPE(SpatialLogitsArguments, spatial_logits)

}  // namespace bam_fused::cpu
