// Work in phases, each of which needs all of the one before it, in one parallel region: threads that part and meet for
// each phase cost as much as a small phase itself.
#pragma once

#include <functional>
#include <vector>

namespace bam_fused::cpu {

struct Phase {
  std::function<void(int64_t begin, int64_t end)> run;  // the parts begin to end, exclusive
  int64_t begin, end;                                   // of all parts
};

// On so many of PyTorch's threads. It ends whichever of them come: none waits but for parts that another one is
// running.
void run_phases(const std::vector<Phase>& phases, int64_t threads);

}  // namespace bam_fused::cpu
