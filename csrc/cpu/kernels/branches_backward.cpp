// The gradients of the branches' layers on vectors, and the weights with which a convolution's input gradient is one
// itself.
#include "branches_backward.h"

#include "columns.h"
#include "norm_sums.h"
#include "register_block.h"

namespace bam_fused::cpu {
namespace {

constexpr int64_t kLongestSum = 64;  // of products: one long run of additions rounds worse

// The gradient of the inputs from `k` on for `samples` samples: grad times weight.
template <class A, int samples, class Part>
inline void channel_in_grad(const ChannelLayerGradArguments& a, int64_t first, int64_t k, Part part) {
  const A *weight = (const A*)a.weight + k, *grad = (const A*)a.grad + first * a.outputs;
  Vec<A> total[samples] = {};
  for (int64_t begin = 0; begin < a.outputs; begin += kLongestSum) {
    const int64_t end = begin + kLongestSum < a.outputs ? begin + kLongestSum : a.outputs;
    Vec<A> sum[samples] = {};
    for (int64_t o = begin; o < end; ++o) {
      const Vec<A> w = load(weight + o * a.inputs, part);
      for (int s = 0; s < samples; ++s) sum[s] += grad[s * a.outputs + o] * w;
    }
    for (int s = 0; s < samples; ++s) total[s] += sum[s];
  }
  for (int s = 0; s < samples; ++s) store((A*)a.in_grad + (first + s) * a.inputs + k, total[s], part);
}

template <class A, class Part>
inline void channel_weight_grad(const ChannelLayerGradArguments& a, int64_t k, Part part) {
  for (int64_t o = 0; o < a.outputs; ++o) {
    Vec<A> total{};
    for (int64_t begin = 0; begin < a.samples; begin += kLongestSum) {
      const int64_t end = begin + kLongestSum < a.samples ? begin + kLongestSum : a.samples;
      Vec<A> sum{};
      for (int64_t s = begin; s < end; ++s) {
        sum += ((const A*)a.grad)[s * a.outputs + o] * load((const A*)a.in + s * a.inputs + k, part);
      }
      total += sum;
    }
    store((A*)a.weight_grad + o * a.inputs + k, total, part);
  }
}

template <class A> void channel_layer_grad(const ChannelLayerGradArguments& a, int64_t begin, int64_t end) {
  const int64_t first = begin * a.part_inputs;
  const int64_t last = end * a.part_inputs < a.inputs ? end * a.part_inputs : a.inputs;
  for_columns<A>(last - first, [&](int64_t column, auto part) {
    for_even_blocks(a.samples, 8, [&](int64_t sample, int64_t size) {
      with_constant<8>(
          size, [&](auto samples) { channel_in_grad<A, decltype(samples)::value>(a, sample, first + column, part); });
    });
    if (a.weight_grad) channel_weight_grad<A>(a, first + column, part);
  });
}

template <class A> void spatial_logits_grad(const SpatialLogitsGradArguments& a, int64_t begin, int64_t end) {
  const int64_t row = padded<A>(a.inputs);
  for (int64_t index = begin; index < end; ++index) {
    const int64_t sample = index / a.parts, first = index % a.parts * a.part_positions;
    const int64_t last = first + a.part_positions < a.positions ? first + a.part_positions : a.positions;
    const A* in = (const A*)a.in.at(sample);
    const A* grad = (const A*)a.grad + sample * a.positions;
    A* in_grad = (A*)a.in_grad.at(sample);
    for (int64_t k = 0; k < row; k += kLanes<A>) {
      const Vec<A> weight = load((const A*)a.weight + k);
      Vec<A> sums[2] = {};
      for (int64_t p = first; p < last; ++p) {
        store(in_grad + p * row + k, grad[p] * weight);
        sums[p % 2] += grad[p] * finished_input<A>(load(in + p * row + k), a.in_finish, k);
      }
      store((A*)a.weight_grad_partials + index * row + k, sums[0] + sums[1]);
    }
    take_sums(a.grad_sums, sample, first, last, norm_grad_sums<A>);
  }
}

template <class T> void turn(const TurnArguments& a, int64_t begin, int64_t end) {
  using N = Number<Factor<T>>;
  constexpr int64_t numbers = kNumbers<Factor<T>>;
  const int64_t row = padded<Compute<T>>(a.inputs), depth = depth_of<Factor<T>>(a.outputs);
  for (int64_t o = begin * numbers; o < end * numbers; ++o) {
    const N* from = (const N*)a.weight + o * a.inputs * a.taps;
    for (int64_t tap = 0; tap < a.taps; ++tap) {
      N* to = (N*)a.turned + ((a.taps - 1 - tap) * depth + o / numbers) * row * numbers + o % numbers;
      for (int64_t i = 0; i < row; ++i) {
        to[i * numbers] = o < a.outputs && i < a.inputs ? from[i * a.taps + tap] : N{};
      }
    }
  }
}

}  // namespace

BAM_KERNEL_OF_COMPUTE_TYPE(ChannelLayerGradArguments, channel_layer_grad)
BAM_KERNEL_OF_COMPUTE_TYPE(SpatialLogitsGradArguments, spatial_logits_grad)
BAM_KERNEL(TurnArguments, turn)

}  // namespace bam_fused::cpu
