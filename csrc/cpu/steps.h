// The steps of a whole BAM, which are cut into parts of a sample, and the weights that they read packed.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "layers.h"

namespace bam_fused::cpu {

class Steps {
 public:
  // Runs the parts begin to end, numbered through all samples; the weight is empty where the step reads none packed.
  using Run = std::function<void(const PackedWeight& weight, int64_t begin, int64_t end)>;

  void add_packing(Packing packing) { packings_.push_back(std::move(packing)); }
  int64_t packed_bytes() const;  // of all weights

  void add(int64_t parts, Run run) { steps_.push_back({std::move(run), parts, nullptr}); }
  void add_packed(int64_t parts, Run run, size_t packing) {
    steps_.push_back({std::move(run), parts, &packings_[packing]});
  }

  // Samples one after the other, each through all steps, on the caller's thread.
  void run_alone(int64_t begin, int64_t end, Span room) const;

  // Step by step, each over all these samples, on PyTorch's threads or on the caller's. The weight of each lies where
  // that of the one before it lay, part by part if there is too little room.
  void run_together(int64_t begin, int64_t end, const Span& room, bool parallel) const;

  // Cuts the weights into parts for which there is room; the bytes of the largest one, which may be more where it can
  // not be cut.
  int64_t cut(int64_t room);

 private:
  struct Step {
    Run run;
    int64_t parts;  // of one sample
    const Packing* packing;
  };

  std::vector<Packing> packings_;
  std::vector<Step> steps_;
};

}  // namespace bam_fused::cpu
