#include "steps.h"

#include <algorithm>

#include "phases.h"

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
  std::vector<Phase> phases;
  for (const Step& step : steps_) {
    const auto add = [&](const PackedWeight& weight) {
      const auto run = [&step, weight](int64_t from, int64_t to) { step.run(weight, from, to); };
      phases.push_back({run, begin * step.parts, end * step.parts});
    };
    if (!step.packing) {
      add({});
      continue;
    }
    for (int64_t index = 0; index < step.packing->parts(); ++index) {
      const Packing::Part part = step.packing->part(room.begin, index);
      const auto kernel = kernel_for<PackArguments>(part.dtype);
      phases.push_back({[=](int64_t from, int64_t to) { kernel(part.arguments, from, to); }, 0, part.factors});
      add(part.weight);
    }
  }
  run_phases(phases, parallel ? torch::stable::get_num_threads() : 1);
}

}  // namespace bam_fused::cpu
