#include "steps.h"

#include <algorithm>

namespace bam_fused::cpu {

int64_t Steps::packed_bytes() const {
  int64_t bytes = 0;
  for (const Packing& packing : packings_) bytes += lines(packing.part_bytes());
  return bytes;
}

int64_t Steps::cut(int64_t room) {
  int64_t most = 0;
  for (Packing& packing : packings_) {
    packing.cut(room);
    most = std::max(most, packing.part_bytes());
  }
  return most;
}

void Steps::run_alone(int64_t begin, int64_t end, Span room) const {
  std::vector<PackedWeight> weights;
  for (const Packing& packing : packings_) weights.push_back(packing.run(room.take(packing.part_bytes()), 0));
  for (int64_t sample = begin; sample < end; ++sample) {
    for (const Step& step : steps_) {
      const PackedWeight weight =
          step.packing ? weights[static_cast<size_t>(step.packing - packings_.data())] : PackedWeight{};
      step.run(weight, sample * step.parts, (sample + 1) * step.parts);
    }
  }
}

void Steps::run_together(int64_t begin, int64_t end, const Span& room, bool parallel) const {
  for (const Step& step : steps_) {
    const auto run = [&](const PackedWeight& weight) {
      const int64_t first = begin * step.parts, last = end * step.parts;
      const auto parts = [&](int64_t from, int64_t to) { step.run(weight, from, to); };
      parallel ? torch::stable::parallel_for(first, last, 1, parts) : parts(first, last);
    };
    if (!step.packing) {
      run({});
      continue;
    }
    for (int64_t part = 0; part < step.packing->parts(); ++part) run(step.packing->run_parallel(room.begin, part));
  }
}

}  // namespace bam_fused::cpu
