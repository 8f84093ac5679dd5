// The compiled instances of each kernel, for the library's introspection.
#pragma once

#include <string>
#include <vector>

namespace bam_fused::cuda {

struct Instance {
  std::string name;
  const void* function;
};

void list_gate(std::vector<Instance>& to);
void list_gate_backward(std::vector<Instance>& to);
void list_global_avg_pool(std::vector<Instance>& to);

}  // namespace bam_fused::cuda
