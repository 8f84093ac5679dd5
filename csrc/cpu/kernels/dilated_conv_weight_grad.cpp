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

// The input of some channels at a strip, its positions one behind the other in rows of `stride`.
template <class A> struct StripInput {
  const A* data;
  int64_t stride, width;  // the positions between rows of the map
};

template <class A>
inline StripInput<A> strip_input(
    const DilatedConvWeightGradArguments& a, const Strip& strip, int64_t channel, int64_t channels, A* memory) {
  const int64_t in_row = padded<A>(a.inputs), width = strip.x.end - strip.x.begin, stride = padded<A>(channels);
  const A* in = (const A*)a.in.at(strip.sample) + (strip.y.begin * a.width + strip.x.begin) * in_row + channel;
  if (!a.in_finish.scale) return {in, in_row, a.width};
  A* to = memory;
  for (int64_t y = strip.y.begin; y < strip.y.end; ++y, in += a.width * in_row) {
    for (int64_t x = 0; x < width; ++x, to += stride) {
      for (int64_t k = 0; k < stride; k += kLanes<A>) {
        store(to + k, finished<A>(load(in + x * in_row + k), a.in_finish, channel + k));
      }
    }
  }
  return {memory, stride, width};
}

template <class A>
inline void add_tap(
    const DilatedConvWeightGradArguments& a, const Strip& strip, const StripInput<A>& in, int64_t ky, int64_t kx,
    const Reach& outputs, int64_t inputs, A* sums, int64_t sums_stride) {
  const int64_t out_row = padded<A>(a.outputs);
  const int64_t up = (1 - ky) * a.dilation, left = (1 - kx) * a.dilation;
  const Reach y = reach(strip.y, up, a.height), x = reach(strip.x, left, a.width);
  if (y.begin >= y.end || x.begin >= x.end) return;
  const A* grad =
      (const A*)a.grad.at(strip.sample) + ((y.begin + up) * a.width + x.begin + left) * out_row + outputs.begin;
  const A* right = in.data + ((y.begin - strip.y.begin) * in.width + x.begin - strip.x.begin) * in.stride;
  Factors<A> factors{grad, 1, out_row, right, in.stride, x.end - x.begin};
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
template <class A> void dilated_conv_weight_grad(const DilatedConvWeightGradArguments& a, int64_t begin, int64_t end) {
  alignas(64) A memory[kMostStripPositions * kMostInputs];
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
        const StripInput<A> in = strip_input(a, strip, channel, channels, memory);
        for (int64_t tap = 0; tap < 9; ++tap) {
          add_tap(a, strip, in, tap / 3, tap % 3, outputs, channels, sums + tap * tap_stride + channel, 9 * tap_stride);
        }
      }
    }
  }
}

}  // namespace

BAM_KERNEL_OF_COMPUTE_TYPE(DilatedConvWeightGradArguments, dilated_conv_weight_grad)

}  // namespace bam_fused::cpu
