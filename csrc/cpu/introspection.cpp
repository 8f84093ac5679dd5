// What the CPU library says of itself, as operators without tensors (torch.ops.bam_fused_cpu): the library then needs
// no Python headers, and one file serves every version of Python.
#include "../shared/stable.h"
#include "instruction_set.h"

namespace bam_fused::cpu {
namespace {

std::string build_info() { return BAM_BUILD_INFO; }

std::string instruction_set_operator() { return name_of(instruction_set()); }

std::vector<std::string> instruction_sets_operator() {
  std::vector<std::string> names;
  for (const InstructionSet set : runnable_instruction_sets()) names.push_back(name_of(set));
  return names;
}

bool use_instruction_set_operator(std::string name) { return use_instruction_set(name); }

}  // namespace
}  // namespace bam_fused::cpu

STABLE_TORCH_LIBRARY(bam_fused_cpu, m) {
  m.def("build_info() -> str");  // JSON
  m.def("instruction_set() -> str");
  m.def("instruction_sets() -> str[]");
  m.def("use_instruction_set(str name) -> bool");
}

STABLE_TORCH_LIBRARY_IMPL(bam_fused_cpu, CompositeExplicitAutograd, m) {
  m.impl("build_info", TORCH_BOX(&bam_fused::cpu::build_info));
  m.impl("instruction_set", TORCH_BOX(&bam_fused::cpu::instruction_set_operator));
  m.impl("instruction_sets", TORCH_BOX(&bam_fused::cpu::instruction_sets_operator));
  m.impl("use_instruction_set", TORCH_BOX(&bam_fused::cpu::use_instruction_set_operator));
}
