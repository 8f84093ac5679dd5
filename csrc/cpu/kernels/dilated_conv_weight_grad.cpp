// The gradient of a dilated 3x3 convolution's weight, on features [positions, channels]: per tap, over samples and
// positions, the output's gradient times the input that the tap met there.
//
// Each split has sums of its own, which are added in a fixed order. A strip's input goes through its finish into memory
// that stays in the cache while all taps meet it.
#include "dilated_conv_weight_grad.h"

#include "products.h"

namespace bam_fused::cpu {
namespace {

constexpr int64_t kMostInputs = 64;  // at a time

struct Reach {
  int64_t begin, end;
};

// What of the strip lies on the map after moving by `offset`.
inline Reach reach(const Reach& strip, int64_t offset, int64_t size) {
  return {strip.begin < -offset ? -offset : strip.begin, strip.end > size - offset ? size - offset : strip.end};
}

struct Strip {
  int64_t sample;
  Reach y, x;
};

// The input of some channels at a strip, its positions one behind the other in rows of `stride`. A factor that is a
// pair holds what is at a position and at the next one in its row, behind the last one zeros.
template <class F> struct StripInput {
  const F* data;
  int64_t stride, width;  // the positions between rows of the map
};

template <class F, class A = Compute<F>>
inline StripInput<F> strip_input(
    const DilatedConvWeightGradArguments& a, const Strip& strip, int64_t channel, int64_t channels, F* memory) {
  const int64_t in_row = padded<A>(a.inputs), width = strip.x.end - strip.x.begin, stride = padded<A>(channels);
  const A* in = (const A*)a.in.at(strip.sample) + (strip.y.begin * a.width + strip.x.begin) * in_row + channel;
  if constexpr (kNumbers<F> == 1) {
    if (!a.in_finish.scale) return {in, in_row, a.width};
  }
  F* to = memory;
  for (int64_t y = strip.y.begin; y < strip.y.end; ++y, in += a.width * in_row) {
    for (int64_t x = 0; x < width; ++x, to += stride) {
      for (int64_t k = 0; k < stride; k += kLanes<A>) {
        const auto input = [&](int64_t at) {
          return finished_input<A>(load(in + at * in_row + k), a.in_finish, channel + k);
        };
        if constexpr (kNumbers<F> == 1) {
          store(to + k, input(x));
        } else {
          store(to + k, pairs_of(input(x), x + 1 < width ? input(x + 1) : Vec<A>{}));
        }
      }
    }
  }
  return {memory, stride, width};
}

// Where pairs do not come out even, the last one ends in a position that the tap does not meet: beyond its row in the
// input or in the gradient, where there are zeros.
template <class F, class A = Compute<F>>
inline void add_tap(
    const DilatedConvWeightGradArguments& a, const Strip& strip, const StripInput<F>& in, int64_t ky, int64_t kx,
    const Reach& outputs, int64_t inputs, A* sums, int64_t sums_stride) {
  const int64_t out_row = padded<A>(a.outputs);
  const int64_t up = (1 - ky) * a.dilation, left = (1 - kx) * a.dilation;
  const Reach y = reach(strip.y, up, a.height), x = reach(strip.x, left, a.width);
  if (y.begin >= y.end || x.begin >= x.end) return;
  const F* grad =
      (const F*)a.grad.at(strip.sample) + ((y.begin + up) * a.width + x.begin + left) * out_row + outputs.begin;
  const F* right = in.data + ((y.begin - strip.y.begin) * in.width + x.begin - strip.x.begin) * in.stride;
  constexpr int64_t step = kNumbers<F>;
  Factors<F> factors{grad, 1, step * out_row, right, step * in.stride, depth_of<F>(x.end - x.begin)};
  factors.runs = y.end - y.begin;
  factors.left_run = a.width * out_row;
  factors.right_run = in.width * in.stride;
  add_product(sums, sums_stride, outputs.end - outputs.begin, inputs, factors);
}

inline Strip strip_at(const DilatedConvWeightGradArguments& a, int64_t index) {
  const int64_t sample = index / a.strips(), across = a.strips_across(), at = index % a.strips();
  const auto part = [](int64_t index, int64_t size, int64_t length) {
    return Reach{index * size, (index + 1) * size < length ? (index + 1) * size : length};
  };
  return {sample, part(at / across, a.strip_rows, a.height), part(at % across, a.strip_columns, a.width)};
}

// Tasks begin to end: the groups of the first split, then those of the next.
template <class T> void dilated_conv_weight_grad(const DilatedConvWeightGradArguments& a, int64_t begin, int64_t end) {
  using A = Compute<T>;
  using F = Factor<T>;
  alignas(64) F memory[kMostStripPositions * kMostInputs];
  const int64_t strips = a.samples * a.strips(), tap_stride = a.splits * a.inputs;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t split = task / a.groups, group = task % a.groups;
    const Reach outputs{group * a.outputs / a.groups, (group + 1) * a.outputs / a.groups};
    A* sums = (A*)a.partials + outputs.begin * 9 * tap_stride + split * a.inputs;
    for (int64_t row = 0; row < 9 * (outputs.end - outputs.begin); ++row) {
      memset(sums + row * tap_stride, 0, a.inputs * sizeof(A));
    }
    for (int64_t s = split * strips / a.splits; s < (split + 1) * strips / a.splits; ++s) {
      const Strip strip = strip_at(a, s);
      for (int64_t channel = 0; channel < a.inputs; channel += kMostInputs) {
        const int64_t channels = a.inputs - channel < kMostInputs ? a.inputs - channel : kMostInputs;
        const StripInput<F> in = strip_input(a, strip, channel, channels, memory);
        for (int64_t tap = 0; tap < 9; ++tap) {
          add_tap(a, strip, in, tap / 3, tap % 3, outputs, channels, sums + tap * tap_stride + channel, 9 * tap_stride);
        }
      }
    }
  }
}

}  // namespace

BAM_KERNEL(DilatedConvWeightGradArguments, dilated_conv_weight_grad)

}  // namespace bam_fused::cpu
