// Squeeze on buffers that end where its arguments say, to be built with sanitizers; all numbers are small integers, so that
// every sum is exact in every dtype.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "pack_weight.cpp"
#include "squeeze.cpp"

using namespace bam_fused;
using namespace bam_fused::cpu;

template <class T> T number(int value) {
  if constexpr (sizeof(T) == 2) {
    return {static_cast<uint16_t>(bit_cast<uint32_t>(static_cast<float>(value)) >> 16)};
  } else {
    return static_cast<T>(value);
  }
}

template <class T> double value(T element) {
  if constexpr (sizeof(T) == 2) {
    return bit_cast<float>(static_cast<uint32_t>(element.bits) << 16);
  } else {
    return static_cast<double>(element);
  }
}

struct Problem {
  int64_t channels, positions, outputs;
  bool rows_are_channels, features;
};

void expect(const Problem& p, const char* what, double got, double wanted) {
  if (got == wanted) return;
  std::printf(
      "%s of %ld channels, %ld positions, %ld outputs: %g, not %g\n", what, long(p.channels), long(p.positions),
      long(p.outputs), got, wanted);
  std::exit(1);
}

template <class T> void check(const Problem& p) {
  using A = Compute<T>;
  const int64_t row = padded<A>(p.outputs), tile = p.rows_are_channels ? 40 : 25;
  const auto at = [&](int64_t channels, int64_t c, int64_t k) {
    return p.rows_are_channels ? c * p.positions + k : k * channels + c;
  };
  std::vector<T> x(p.channels * p.positions), reduced(p.outputs * p.positions);
  for (size_t i = 0; i < x.size(); ++i) x[i] = number<T>(int(i % 5) - 2);
  std::vector<A> weight(p.outputs * p.channels), packed(p.channels * row), scale(row, 1), shift(row, 0);
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = A(int(i % 3) - 1);
  pack_weight<A>({weight.data(), packed.data(), p.outputs, p.channels, 1}, 0, p.channels);
  SqueezeArguments a{};
  a.channels = p.channels, a.positions = p.positions, a.outputs = p.outputs;
  a.width = a.pooled_width = p.positions;
  a.tile_positions = tile, a.tiles = (p.positions + tile - 1) / tile;
  a.rows_are_channels = p.rows_are_channels;
  a.x = {x.data(), {int64_t(x.size()), p.rows_are_channels ? p.positions : p.channels}};
  a.weight = packed.data();
  a.finish = {scale.data(), shift.data(), false};
  std::vector<A> pool(a.tiles * p.channels);
  a.pool_partials = pool.data();
  const size_t feature_bytes = (p.positions * row * sizeof(A) + 63) / 64 * 64;
  A* features = static_cast<A*>(std::aligned_alloc(64, feature_bytes));
  if (p.features)
    a.features = {features, int64_t(feature_bytes), 0};
  else
    a.reduced = {reduced.data(), {int64_t(reduced.size()), p.rows_are_channels ? p.positions : p.outputs}};
  squeeze<T>(a, 0, a.tiles);
  for (int64_t c = 0; c < p.channels; ++c) {
    double sum = 0, wanted = 0;
    for (int64_t t = 0; t < a.tiles; ++t) sum += pool[t * p.channels + c];
    for (int64_t k = 0; k < p.positions; ++k) wanted += value(x[at(p.channels, c, k)]);
    expect(p, "pool", sum, wanted);
  }
  for (int64_t k = 0; k < p.positions; ++k) {
    for (int64_t o = 0; o < p.outputs; ++o) {
      double wanted = 0;
      for (int64_t c = 0; c < p.channels; ++c) wanted += value(x[at(p.channels, c, k)]) * weight[o * p.channels + c];
      expect(p, "reduction", p.features ? features[k * row + o] : value(reduced[at(p.outputs, o, k)]), wanted);
    }
  }
  std::free(features);
}

int main() {
  for (const int64_t channels : {1, 7, 16, 100}) {
    for (const int64_t positions : {1, 9, 49, 130, 512}) {
      for (const int64_t outputs : {1, 5, 16, 140}) {
        for (int form = 0; form < 4; ++form) {
          const Problem problem{channels, positions, outputs, form % 2 == 0, form / 2 == 0};
          check<float>(problem);
          check<double>(problem);
          check<BFloat16>(problem);
        }
      }
    }
  }
}
